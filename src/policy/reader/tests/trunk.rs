//! Readers on another trunk, and trunks under training.

use super::*;
use crate::policy::encoder::Trainable;

fn pairs(documents: &[Document]) -> Vec<(&str, &Document)> {
    documents.iter().map(|document| ("who is it?", document)).collect()
}

fn documents() -> Vec<Document> {
    let text = |n: usize| "Some words, and more. ".repeat(n);
    (1..5).map(|n| document(&n.to_string(), "Title", &text(n))).collect()
}

fn trained(reader: &PairReader, which: Trainable) -> BTreeMap<String, Tensor> {
    reader.live_trunk(&BTreeMap::new(), which).unwrap().snapshot().unwrap()
}

#[test]
fn a_trunk_replaces_its_tensors_and_keeps_cache_and_counters_of_its_own() {
    let reader = reader(ReaderArgs::default());
    let documents = documents();
    let first = reader.read(&pairs(&documents)).unwrap();
    let same = reader.with_trunk(&trained(&reader, Trainable::All)).unwrap();
    assert_eq!(same.counters().pairs_encoded, 0);
    assert_eq!(same.read(&pairs(&documents)).unwrap(), first);
    assert_eq!(same.counters().pairs_encoded, 4);

    let mut top = trained(&reader, Trainable::FromLayer(1));
    for tensor in top.values_mut() {
        *tensor = (&*tensor * 1.5).unwrap();
    }
    let moved = reader.with_trunk(&top).unwrap();
    assert_ne!(moved.read(&pairs(&documents)).unwrap()[0].cls, first[0].cls);
    assert_eq!(reader.read(&pairs(&documents)).unwrap(), first);
    // A second trunk goes on from the first: what it does not replace stays.
    let bottom = moved.with_trunk(&BTreeMap::new()).unwrap();
    let both = (moved.read(&pairs(&documents)), bottom.read(&pairs(&documents)));
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    assert_eq!((moved.width(), moved.digest()), (reader.width(), reader.digest()));
}

#[test]
fn a_live_trunk_gives_the_states_that_its_reader_reads() {
    let reader = reader(ReaderArgs { batch_tokens: 60, ..Default::default() });
    let documents = documents();
    let live = reader.live_trunk(&BTreeMap::new(), Trainable::All).unwrap();
    assert!(live.variables().keys().all(|name| !name.starts_with("span.")));
    let states = live.cls(&pairs(&documents)).unwrap().to_vec2::<f32>().unwrap();
    for (state, reading) in states.iter().zip(reader.read(&pairs(&documents)).unwrap()) {
        for (a, b) in state.iter().zip(&reading.cls) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }
}

#[test]
fn a_snapshot_of_a_live_trunk_does_not_follow_later_steps() {
    let reader = reader(ReaderArgs::default());
    let live = reader.live_trunk(&BTreeMap::new(), Trainable::FromLayer(1)).unwrap();
    let kept = live.snapshot().unwrap();
    let documents = documents();
    let before = reader.read(&pairs(&documents)).unwrap();
    for variable in live.variables().values() {
        variable.set(&variable.zeros_like().unwrap()).unwrap();
    }
    let again = reader.with_trunk(&kept).unwrap();
    assert_eq!(again.read(&pairs(&documents)).unwrap(), before);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let reader = reader(ReaderArgs::default());
    let name = "encoder.layer.0.attention.self.query.bias";
    let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut trunk = trained(&reader, Trainable::All);
        change(&mut trunk);
        reader.with_trunk(&trunk).unwrap_err().to_string()
    };
    let error = refused(&|trunk| drop(trunk.remove(name)));
    assert!(error.contains(&format!("`{name}` is missing; expected shape [16]")), "{error}");
    let three = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = refused(&|trunk| drop(trunk.insert(name.to_owned(), three.clone())));
    assert!(error.contains(&format!("`{name}` has shape [3]; expected [16]")), "{error}");
    for foreign in ["rel.bias", "encoder.layer.2.output.dense.bias", "anything"] {
        let error = refused(&|trunk| drop(trunk.insert(foreign.to_owned(), three.clone())));
        assert!(error.contains(&format!("`{foreign}` is no weight of this encoder")), "{error}");
    }
}
