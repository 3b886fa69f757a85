//! The forward pass on a tiny random model: packing, gradient reach, snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use crate::policy::model_folder::ModelFolder;

fn tiny() -> ModelFolder {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path(), 1).unwrap();
    ModelFolder::load(dir.path(), &Device::Cpu).unwrap()
}

fn sequence(ids: &[u32]) -> Sequence {
    let types = (0..ids.len()).map(|i| u32::from(i > 2)).collect();
    Sequence { ids: ids.to_vec(), types }
}

#[test]
fn a_sequence_has_the_same_states_alone_and_in_a_pack() {
    let folder = tiny();
    let encoder = Encoder::new(&folder.config, &Weights::frozen(folder.tensors)).unwrap();
    let (a, b) = (sequence(&[2, 7, 9, 3]), sequence(&[2, 30, 31, 32, 33, 3]));
    let pack = PackedBatch::new([&a, &b], &Device::Cpu).unwrap();
    let packed = encoder.forward(&pack).unwrap().narrow(0, 4, 6).unwrap();
    let alone = encoder.forward(&PackedBatch::new([&b], &Device::Cpu).unwrap()).unwrap();
    let difference = (packed - alone).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
}

#[test]
fn every_trainable_weight_gets_a_gradient_and_no_frozen_one_does() {
    for which in [Trainable::All, Trainable::FromLayer(1)] {
        let folder = tiny();
        let weights = Weights::trainable(folder.tensors, which).unwrap();
        let encoder = Encoder::new(&folder.config, &weights).unwrap();
        let batch = PackedBatch::new([&sequence(&[2, 7, 9, 8, 12, 3])], &Device::Cpu).unwrap();
        let states = encoder.forward(&batch).unwrap();
        let target = states.sin().unwrap().affine(1.0, 0.3).unwrap();
        let loss = (states * target).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        for (name, _) in folder.config.shapes() {
            let variable = weights.variables().get(&name);
            assert_eq!(variable.is_some(), which.covers(&name), "{name}");
            let Some(variable) = variable else { continue };
            let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name}: none"));
            let size = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            // A key bias shifts all logits of a query alike: its gradient is zero by construction.
            assert!(size > 0.0 || name.ends_with("key.bias"), "{name}: zero");
        }
    }
}

#[test]
fn a_snapshot_keeps_still_while_the_variables_move() {
    let weights = Weights::trainable(tiny().tensors, Trainable::All).unwrap();
    let snapshot = weights.snapshot().unwrap();
    let name = "embeddings.LayerNorm.bias";
    let before = snapshot[name].sum_all().unwrap().to_scalar::<f32>().unwrap();
    let variable = &weights.variables()[name];
    variable.set(&variable.ones_like().unwrap()).unwrap();
    let sum = |tensor: &Tensor| tensor.sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert_eq!(sum(&weights.tensors()[name]), 16.0);
    assert_eq!(sum(&snapshot[name]), before);
}

#[test]
fn a_missing_or_misshapen_weight_is_named_with_its_shape() {
    let mut tensors = tiny().tensors;
    let config = tiny().config;
    let name = "encoder.layer.1.output.dense.weight";
    tensors.insert(name.to_owned(), Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap());
    let error = Encoder::new(&config, &Weights::frozen(tensors.clone())).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("[3, 5]"), "{error}");
    tensors.remove(name);
    let error = Encoder::new(&config, &Weights::frozen(tensors)).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("missing"), "{error}");
}

#[test]
fn a_sequence_longer_than_the_positions_is_refused() {
    let folder = tiny();
    let encoder = Encoder::new(&folder.config, &Weights::frozen(folder.tensors)).unwrap();
    let long = sequence(&vec![5; folder.config.max_position_embeddings + 1]);
    let batch = PackedBatch::new([&long], &Device::Cpu).unwrap();
    assert!(matches!(encoder.forward(&batch), Err(EncoderError::Batch(_))));
}

#[test]
fn batches_stay_below_their_token_bound() {
    assert_eq!(batches(&[3, 4, 5, 20, 1], 8), vec![0..2, 2..3, 3..4, 4..5]);
    assert_eq!(batches(&[], 8), Vec::<std::ops::Range<usize>>::new());
}
