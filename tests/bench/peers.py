"""Other tools with the same weights on the same hypotheses: scores and speed against ours.

    pip install ctranslate2 transformers
    python tests/bench/peers.py --nbest pocketsphinx.100best.json.gz [--lm exp/lm] [--threads 1]

``transformers``: GPT2LMHeadModel, batches sorted by length, log-softmax, gather. CTranslate2:
``score_batch`` in float32 and int8. ONNX Runtime and OpenVINO: our graph, every hypothesis for
itself (what a graph exported from anywhere computes). Other tools have each of BUDGETS most tokens
a batch. A model that a tool cannot express (low rank, blocks that differ) and a tool that is not
installed are left out and named. Differences of ln P are against the padded batch in fp32 torch;
"x" is its time over the tool's.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from subjects import Subject, add_subject_arguments, open_subject, read_lists, speed_up, take_turns

from asrprune.lm.model.transformer import TransformerLM

BOS, EOS = 1, 2
BUDGETS = (256, 1024, 4096)
Score = Callable[[list[list[int]]], np.ndarray]
"""Token ids of all hypotheses, without <s> and </s>, to ln P of each."""


def uniform(model: TransformerLM) -> bool:
    """Whether the model is a plain GPT-2: dense, whole heads, all blocks alike."""
    shape = model.shape
    first = shape.blocks[0]
    plain = first.heads * shape.head_dim == shape.d_model and first.ffn > 0
    return plain and not first.linears and all(block == first for block in shape.blocks)


def in_batches(model: torch.nn.Module, begin: int, end: int, budget: int) -> Score:
    """Scores by a causal LM of transformers, in padded batches of at most ``budget`` tokens."""

    @torch.inference_mode()
    def score(hyps: list[list[int]]) -> np.ndarray:
        order = sorted(range(len(hyps)), key=lambda index: -len(hyps[index]))
        scores = np.zeros(len(hyps))
        while order:
            size = max(1, budget // (len(hyps[order[0]]) + 1))
            chosen, order = order[:size], order[size:]
            rows = [torch.tensor([begin, *hyps[index], end]) for index in chosen]
            batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # [B, T + 1]
            logits = model(batch[:, :-1], use_cache=False).logits.float()
            log_probs = logits.log_softmax(-1).gather(2, batch[:, 1:, None])[:, :, 0]
            length = torch.tensor([len(row) - 1 for row in rows])
            real = torch.arange(batch.shape[1] - 1) < length[:, None]
            scores[chosen] = (log_probs.double() * real).sum(dim=1).numpy()
        return scores

    return score


def with_transformers(model: TransformerLM, dtype: torch.dtype, budget: int) -> Score:
    """GPT2LMHeadModel with the weights copied over; ``budget``: most tokens of a batch."""
    import transformers

    shape = model.shape
    config = transformers.GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.max_positions,
        n_embd=shape.d_model,
        n_layer=len(shape.blocks),
        n_head=shape.blocks[0].heads,
        n_inner=shape.blocks[0].ffn,
        activation_function="gelu_new",
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    state = {
        "wte.weight": model.embedding.weight,
        "wpe.weight": model.positions,
        "ln_f.weight": model.norm.weight,
        "ln_f.bias": model.norm.bias,
    }
    for index, block in enumerate(model.blocks):
        qkv = [block.attn.q, block.attn.k, block.attn.v]
        whole = torch.nn.Linear(1, 1)
        whole.weight = torch.nn.Parameter(torch.cat([linear.weight for linear in qkv]))
        whole.bias = torch.nn.Parameter(torch.cat([linear.bias for linear in qkv]))
        into = f"h.{index}."
        for name, linear in (
            ("attn.c_attn", whole),
            ("attn.c_proj", block.attn.o),
            ("mlp.c_fc", block.ffn.up),
            ("mlp.c_proj", block.ffn.down),
        ):
            state[f"{into}{name}.weight"] = linear.weight.T
            state[f"{into}{name}.bias"] = linear.bias
        for name, norm in (("ln_1", block.norm_attn), ("ln_2", block.norm_ffn)):
            state[f"{into}{name}.weight"] = norm.weight
            state[f"{into}{name}.bias"] = norm.bias
    theirs.transformer.load_state_dict(state, strict=False)
    theirs.to(dtype)
    return in_batches(theirs, BOS, EOS, budget)


def with_ctranslate2(model: TransformerLM, kind: str, budget: int, threads: int) -> Score:
    """``score_batch`` of a model made from the weights; ``kind``: float32, int8; ``budget``: most
    tokens of a batch."""
    import ctranslate2
    from ctranslate2.specs import common_spec, transformer_spec

    first = model.shape.blocks[0]
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        len(model.blocks), first.heads, pre_norm=True, activation=common_spec.Activation.GELUTanh
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = decoder.projection.weight = array(model.embedding.weight)
    decoder.position_encodings.encodings = array(model.positions)
    copy_norm(decoder.layer_norm, model.norm)
    for layer, block in zip(decoder.layer, model.blocks):
        qkv = [block.attn.q, block.attn.k, block.attn.v]
        whole = layer.self_attention.linear[0]
        whole.weight = np.concatenate([array(linear.weight) for linear in qkv])
        whole.bias = np.concatenate([array(linear.bias) for linear in qkv])
        for target, linear in (
            (layer.self_attention.linear[1], block.attn.o),
            (layer.ffn.linear_0, block.ffn.up),
            (layer.ffn.linear_1, block.ffn.down),
        ):
            target.weight, target.bias = array(linear.weight), array(linear.bias)
        copy_norm(layer.self_attention.layer_norm, block.norm_attn)
        copy_norm(layer.ffn.layer_norm, block.norm_ffn)
    spec.register_vocabulary([str(token) for token in range(model.shape.vocab_size)])
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "0", "1", "2"
    with tempfile.TemporaryDirectory() as folder:
        spec.validate()
        spec.save(folder)
        generator = ctranslate2.Generator(folder, compute_type=kind, intra_threads=threads)

    def score(hyps: list[list[int]]) -> np.ndarray:
        rows = [list(map(str, [BOS, *ids, EOS])) for ids in hyps]
        results = generator.score_batch(
            rows, max_batch_size=budget, batch_type="tokens", max_input_length=0
        )
        return np.array([sum(result.log_probs) for result in results])

    return score


def array(value: torch.Tensor) -> np.ndarray:
    return value.detach().float().contiguous().numpy()


def copy_norm(target: object, norm: torch.nn.LayerNorm) -> None:
    target.gamma, target.beta = array(norm.weight), array(norm.bias)


def peers(subject: Subject, threads: int) -> dict[str, Score]:
    """The tools that are there and can express the model."""
    found: dict[str, Score] = {}
    for package in ("transformers", "ctranslate2"):
        if importlib.util.find_spec(package) is None:
            print(f"{package}: not installed (pip install {package})")
            continue
        if not uniform(subject.model):
            print(f"{package}: cannot express this model")
            continue
        for budget in BUDGETS:
            if package == "transformers":
                for dtype in (torch.float32, torch.bfloat16):
                    kind = str(dtype).removeprefix("torch.")
                    made = with_transformers(subject.model, dtype, budget)
                    found[f"transformers {kind} {budget}"] = made
            else:
                for kind in ("float32", "int8"):
                    made = with_ctranslate2(subject.model, kind, budget, threads)
                    found[f"CTranslate2 {kind} {budget}"] = made
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_subject_arguments(parser)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    subject = open_subject(args.lm, args.layers, args.width, args.vocab)
    lists = [[hyp.text for hyp in one.hyps] for one in read_lists(args.nbest, args.limit)]
    texts = [text for one in lists for text in one]
    tokens = subject.tokenizer.encode_batch(texts)

    results: dict[str, np.ndarray] = {}

    def ours(name: str, lm, lists: list[list[str]]) -> Callable[[], None]:
        def run() -> None:
            results[name] = np.concatenate(lm.score_lists(lists))

        return run

    def theirs(name: str, score: Score) -> Callable[[], None]:
        def run() -> None:
            results[name] = score(tokens)

        return run

    runs = {"padded torch": ours("padded torch", subject.padded(args.threads), lists)}
    runs |= {name: theirs(name, peer) for name, peer in peers(subject, args.threads).items()}
    with_openvino = ("openvino", "openvino-bf16", "openvino-int8")
    if importlib.util.find_spec("openvino") is None:
        print("openvino: not installed")
        with_openvino = ()
    for engine in ("onnx", "onnx-int8", "bf16", "int8", *with_openvino):
        lm = subject.scorer(engine, args.threads)
        runs[f"{engine} alone"] = ours(f"{engine} alone", lm, [[text] for text in texts])
    for engine in ("torch", "onnx", "onnx-int8", "bf16", "int8", *with_openvino):
        lm = subject.scorer(engine, args.threads)
        runs[f"{engine} over tries"] = ours(f"{engine} over tries", lm, lists)
    times = take_turns(runs, args.repeats, args.threads)
    clock = "CPU" if args.threads == 1 else "wall"
    print(f"{len(lists)} utterances, {len(texts)} hypotheses, {args.threads} threads")
    print(f"{'':26} {clock + ' s':>8} {'x':>6} {'max diff':>9} {'mean':>9}")
    for name, seconds in times.items():
        away = np.abs(results[name] - results["padded torch"])
        ratio = speed_up(times["padded torch"], seconds)
        middle = statistics.median(seconds)
        print(f"{name:26} {middle:8.2f} {ratio:6.2f} {away.max():9.2g} {away.mean():9.2g}")


if __name__ == "__main__":
    main()
