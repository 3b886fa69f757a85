"""Peer of `rerank_throughput`: the same encoder on ONNX Runtime, f32, on the same token ids.

usage: python onnx_rerank.py MODEL_DIR IDS.json ROUNDS THREADS

MODEL_DIR holds config.json and model.safetensors (f32, f16 or int8 rows with `.scale`). IDS.json is
a list of B token id lists, one length each. Prints one JSON line:
{"pairs_per_second", "pairs_per_cpu_second", "n", "checksum"}; the checksum is the mean absolute
`[CLS]` state, by which the caller sees that both sides computed the same thing.

The graph is built here from the weights with ONNX Runtime's own fused CPU kernels (Attention,
SkipLayerNormalization, BiasGelu): what its BERT optimiser would make of an exported model.
"""

import json
import os
import resource
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

FUSED = "com.microsoft"


def load_weights(model_dir):
    """All tensors as f32 under their names on disk."""
    stored = load_file(os.path.join(model_dir, "model.safetensors"))
    weights = {}
    for name, value in stored.items():
        if name.endswith(".scale") and name[: -len(".scale")] in stored:
            continue
        weights[name] = value.astype(np.float32)
        if value.dtype == np.int8:
            weights[name] *= stored[name + ".scale"][:, None]
    return weights


class Graph:
    """Collects nodes and initialisers; every method returns the name of its output."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initialisers = []

    def constant(self, name, value):
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def node(self, kind, inputs, output, domain="", **attributes):
        self.nodes.append(
            helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes)
        )
        return output


def embeddings(graph, epsilon):
    prefix = "bert.embeddings."
    word = graph.node(
        "Gather", [graph.weight(prefix + "word_embeddings.weight"), "input_ids"], "word"
    )
    kind = graph.node(
        "Gather", [graph.weight(prefix + "token_type_embeddings.weight"), "token_type_ids"], "type"
    )
    shape = graph.node("Shape", ["input_ids"], "shape")
    one = graph.constant("one", np.array([1], np.int64))
    length = graph.node("Gather", [shape, one], "length", axis=0)
    zero = graph.constant("zero", np.array([0], np.int64))
    table = graph.weight(prefix + "position_embeddings.weight")
    position = graph.node("Slice", [table, zero, length, zero], "position")
    total = graph.node("Add", [graph.node("Add", [word, kind], "word_type"), position], "sum")
    norm = prefix + "LayerNorm"
    scale_shift = [graph.weight(norm + ".weight"), graph.weight(norm + ".bias")]
    return graph.node(
        "LayerNormalization", [total, *scale_shift], "embedded", axis=-1, epsilon=epsilon
    )


def layer(graph, x, at, heads, epsilon):
    prefix = f"bert.encoder.layer.{at}."
    names = [prefix + f"attention.self.{part}" for part in ("query", "key", "value")]
    packed = np.concatenate([graph.weights[name + ".weight"].T for name in names], axis=1)
    bias = np.concatenate([graph.weights[name + ".bias"] for name in names])
    inputs = [x, graph.constant(f"qkv{at}", packed), graph.constant(f"qkv_bias{at}", bias), "mask"]
    attended = graph.node("Attention", inputs, f"attended{at}", FUSED, num_heads=heads)

    def dense(name, value, output):
        kernel = graph.constant(output + "_w", graph.weights[name + ".weight"].T)
        return graph.node("MatMul", [value, kernel], output)

    def close(value, residual, name, norm, output):
        arguments = [norm + ".weight", norm + ".bias", name + ".bias"]
        inputs = [value, residual, *map(graph.weight, arguments)]
        return graph.node("SkipLayerNormalization", inputs, output, FUSED, epsilon=epsilon)

    name = prefix + "attention.output.dense"
    x = close(dense(name, attended, f"mixed{at}"), x, name, prefix + "attention.output.LayerNorm",
              f"after_attention{at}")
    name = prefix + "intermediate.dense"
    inner = [dense(name, x, f"inner{at}"), graph.weight(name + ".bias")]
    inner = graph.node("BiasGelu", inner, f"gelu{at}", FUSED)
    name = prefix + "output.dense"
    return close(dense(name, inner, f"outer{at}"), x, name, prefix + "output.LayerNorm", f"out{at}")


def build(model_dir):
    """The encoder as an ONNX model: input_ids, token_type_ids, attention_mask -> (B, L, H)."""
    with open(os.path.join(model_dir, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    graph = Graph(load_weights(model_dir))
    epsilon = config["layer_norm_eps"]
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    x = embeddings(graph, epsilon)
    for at in range(config["num_hidden_layers"]):
        x = layer(graph, x, at, config["num_attention_heads"], epsilon)

    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    names = ("input_ids", "token_type_ids", "attention_mask")
    inputs = [value(name, TensorProto.INT64, ["b", "l"]) for name in names]
    outputs = [value(x, TensorProto.FLOAT, ["b", "l", config["hidden_size"]])]
    made = helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.initialisers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    model_dir, ids_path, rounds, threads = sys.argv[1:5]
    with open(ids_path, encoding="utf-8") as file:
        ids = np.array(json.load(file), np.int64)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    # Spinning threads would be billed as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        build(model_dir).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": np.ones_like(ids),
    }
    states = session.run(None, feed)[0]
    wall, cpu = [], []
    for _ in range(int(rounds)):
        cpu_before, before = cpu_seconds(), time.perf_counter()
        session.run(None, feed)
        wall.append(time.perf_counter() - before)
        cpu.append(cpu_seconds() - cpu_before)
    result = {
        "pairs_per_second": len(ids) / min(wall),
        "pairs_per_cpu_second": len(ids) / min(cpu),
        "n": len(ids) * int(rounds),
        "checksum": float(np.abs(states[:, 0]).mean()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
