"""quern's side of every comparison: its checkpoints, its decisions, its numbers.

Scripts run from the root of the repository. QUERN_TREE names the build tree (out), and
QUERN_INTEROP the folder of this run, with the helper programs and the packed checkpoint that
`run` made.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TREE = Path(os.environ.get("QUERN_TREE", "out"))
WORK = Path(os.environ.get("QUERN_INTEROP", TREE / "interop"))
FORMATS = Path(os.environ.get("QUERN_FORMATS", WORK / "formats/out"))  # every_format.json
BASE = "demo/tiny-qwen2_5-vl"

# Last components of the names of linears.
LEAVES = ("proj", ".qkv", ".mlp.0", ".mlp.2", "lm_head")

# Greedy text is compared on these, and the first token's log probability.
TEXTS = ["Two dogs are", "A man riding", "A big red"]
IMAGES = [f"demo/images/scene_{name}" for name in ("064.jpg", "066.jpg", "071.png", "079.png")]
QUESTION = "Describe this image."
MOST_NEW = 48
NEAR_TIE = 0.25  # nats


def scheme(name, profile="universal"):
    """The folder of a built scheme, or of what `run` exported otherwise ("packed" is the
    universal profile in shards)."""
    suffix = "" if profile == "universal" else "_" + profile
    return next(TREE.glob(f"models/*/quantized/{name}{suffix}"), WORK / profile / name)


def all_schemes(profile="universal"):
    """The folders of all that are built in a profile."""
    def profile_of(path):
        return next((p for p in ("modelopt", "bf16") if path.name.endswith("_" + p)), "universal")
    return sorted(path for path in TREE.glob("models/*/quantized/*")
                  if path.is_dir() and profile_of(path) == profile)


def manifest_of(folder):
    """The path of the scheme's own quant manifest."""
    files = next((folder / "layer-sensitivity").glob("*_files.json"))
    return files.with_name(files.name.replace("_files.json", "_quant_manifest.json"))


def decisions(folder):
    """{quern's name of a linear: is it in FP8}, from the scheme's own manifest."""
    folder = Path(folder)
    names = folder / "decisions.json"  # of write_configs
    if names.exists():
        return json.loads(names.read_text())
    layers = json.loads(manifest_of(folder).read_text())["layers"]
    return {name: layer["quantized"] for name, layer in layers.items()}


def complete_decisions(folder):
    """As decisions, with the linears that the scheme's baseline never looked at, such as
    the vision tower of a text scheme: they are in BF16."""
    folder = Path(folder)
    said = decisions(folder)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        for tensor in json.loads(index.read_text())["weight_map"]:
            module = own_name(tensor.removesuffix(".weight"))
            if tensor.endswith(".weight") and module.endswith(LEAVES):
                said.setdefault(module, False)
    return said


def own_name(hub):
    return hub.replace("model.layers.", "language_model.layers.", 1)


def hub_name(module):
    """The name that the tensors have in the files."""
    return module.replace("language_model.layers.", "model.layers.", 1)


# ---- numbers ----


@dataclass
class Sample:
    """A case as quern's model saw it, and what it made of it."""

    ids: list
    rows: list  # rows of the logits that predict a graded token
    loss: float
    grid: list  # height and width in patches; 0, 0 without an image
    logits: object  # torch, [ids][vocab]
    patches: object  # torch, [patches][values], or None


def greedy_cases():
    """Prompts to be continued; their last row of logits is the first new token's."""
    cases = [{"name": f"text{i}", "form": "text", "text": t} for i, t in enumerate(TEXTS)]
    for i, image in enumerate(IMAGES):
        cases.append({"name": f"image{i}", "form": "ask", "text": QUESTION, "image": image})
    return cases


def graded_cases(images=16, texts=16):
    """Captions with and without their image, all tokens given."""
    rows = [json.loads(line) for line in open("demo/demo_vlm_eval.jsonl")]
    captions = open("demo/demo_captions.txt").read().splitlines()
    cases = [
        {"name": f"image{i}", "form": "answer", "text": row["caption"],
         "image": "demo/" + row["image_relpath"]}
        for i, row in enumerate(rows[:images])
    ]
    step = len(captions) // texts
    cases += [{"name": f"text{i}", "form": "text", "text": captions[i * step]}
              for i in range(texts)]
    return cases


def logits(checkpoint, cases):
    """Runs quern on all cases: {name: Sample}."""
    import torch

    folder = WORK / "logits"
    listed = WORK / "cases.json"
    listed.write_text(json.dumps(cases))
    subprocess.run([WORK / "logits_of", checkpoint, listed, folder], check=True)

    def floats(case, kind, rows):
        data = bytearray((folder / f"{case['name']}.{kind}").read_bytes())
        return torch.frombuffer(data, dtype=torch.float32).view(rows, -1).clone()

    samples = {}
    for case in cases:
        said = json.loads((folder / f"{case['name']}.json").read_text())
        height, width = said["grid"]
        samples[case["name"]] = Sample(
            ids=said["ids"], loss=said["loss"], grid=[height, width],
            rows=[i - 1 for i, graded in enumerate(said["graded"]) if graded],
            logits=floats(case, "logits", len(said["ids"])),
            patches=floats(case, "patches", height * width) if case.get("image") else None)
    return samples


def generate(checkpoint, case):
    """Greedy text by quern's own tool."""
    command = [TREE / "bin/generate", "--prompt", case["text"], "--max-new", str(MOST_NEW)]
    if case.get("image"):
        command += ["--image", case["image"]]
    done = subprocess.run(command + [checkpoint], check=True, capture_output=True, text=True)
    return done.stdout.removesuffix("\n")


def surprise(checkpoint, case, text):
    """How far from greedy a continuation is in quern's eyes: the most that any of its
    tokens lies below the best one, in nats, with the repetition penalty of
    generation_config.json. 0: it is quern's own greedy text. Two programs that round
    differently part at a near tie; this tells that from a wrong answer."""
    wishes = json.loads((Path(checkpoint) / "generation_config.json").read_text())
    penalty = wishes.get("repetition_penalty", 1.0)
    graded = dict(case, form="answer", text=text) if case.get("image") else \
        dict(case, text=case["text"] + text)
    start = len(logits(checkpoint, [case])[case["name"]].ids)
    sample = logits(checkpoint, [graded])[case["name"]]
    worst = 0.0
    for at in range(start, len(sample.ids)):
        row = sample.logits[at - 1].clone()
        seen = sorted({int(i) for i in sample.ids[:at]})
        row[seen] = (row[seen] * penalty).where(row[seen] < 0, row[seen] / penalty)
        worst = max(worst, (row.max() - row[int(sample.ids[at])]).item())
    return worst


def check_text(report, checkpoint, case, found, near_tie=NEAR_TIE):
    """Whether somebody's greedy text is quern's, or parts from it at a near tie."""
    name, expected = case.get("image") or repr(case["text"]), generate(checkpoint, case)
    if found == expected:
        report.check(True, f"{name}: {found!r}")
        return
    gap = surprise(checkpoint, case, found)
    report.check(gap <= near_tie, f"{name}: {found!r}, quern: {expected!r}; they part at a gap "
                                  f"of {gap:.3f} nats (allowed {near_tie})")


def divergence(p, q, rows):
    """Mean over the rows of KL(p || q), of logits [row][vocab], in float64."""
    p, q = (x[rows].double().log_softmax(-1) for x in (p, q))
    return (p.exp() * (p - q)).sum(-1).mean().item()


def mean_divergence(p, q, samples, kind):
    """Over all samples whose name begins with kind; p and q map names to logits."""
    each = [divergence(p[name], q[name], s.rows)
            for name, s in samples.items() if name.startswith(kind)]
    return sum(each) / len(each)


# ---- saying how it went ----


class Report:
    """One line a check; exits 1 at the end if any failed. Of a control, where checks are
    to fail, the lines are notes."""

    def __init__(self, control=False):
        self.failed = 0
        self.words = ("     holds:", "     fails:") if control else ("ok  ", "FAIL")

    def check(self, passed, text):
        print(self.words[not passed], text, flush=True)
        self.failed += not passed

    def note(self, text):
        print("    ", text, flush=True)

    def finish(self):
        sys.exit(1 if self.failed else 0)
