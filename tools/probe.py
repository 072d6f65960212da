"""What a program makes of every built checkpoint on this machine, recorded for the report.

    probe.py PROGRAM --model DIR --folder DIR --out FILE [--captions FILE --first N]
             [--eval-list FILE --image-root DIR]

PROGRAM is vllm or transformers. The base model and each checkpoint of the folder is loaded
in a process of its own, since one that fails may take its process with it, and asked two
questions: how a caption goes on, and what is on an image. The record has the answers, or the
exact error. It is written after each; what it has of the same files and the same program
is not asked again.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

NEW_TOKENS = 24
WORDS = 4  # of a caption
QUESTION = "Describe this image."
LONGEST = 4096  # tokens of prompt and answer
SECONDS = 1800  # for one checkpoint
BESIDE = ("torch", "compressed-tensors", "transformers")  # whose versions matter too


# ---- in the process of one checkpoint ----


def prompt_of(processor, question):
    if "image" not in question:
        return question["prompt"]
    turn = {"role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": question["prompt"]}]}
    return processor.apply_chat_template([turn], add_generation_prompt=True)


def open_image(question):
    from PIL import Image

    return Image.open(question["image"]).convert("RGB")


def ask_transformers(folder, questions):
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, said = AutoModelForImageTextToText.from_pretrained(
        folder, dtype="auto", output_loading_info=True)
    wrong = {kind: sorted(map(str, keys)) for kind, keys in said.items() if keys}
    if wrong:
        raise ValueError("; ".join(f"{len(keys)} {kind}, the first {keys[0]}"
                                   for kind, keys in wrong.items()))
    model = model.to(device).eval()
    processor = AutoProcessor.from_pretrained(folder)
    answers = []
    for question in questions:
        images = [open_image(question)] if "image" in question else None
        inputs = processor(text=[prompt_of(processor, question)], images=images,
                           return_tensors="pt").to(device)
        new = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        start = inputs["input_ids"].shape[1]
        answers.append(processor.tokenizer.decode(new[0, start:], skip_special_tokens=True))
    return device, answers


def ask_vllm(folder, questions):
    from transformers import AutoConfig, AutoProcessor
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    config = AutoConfig.from_pretrained(folder)
    longest = getattr(config.get_text_config(), "max_position_embeddings", LONGEST)
    engine = LLM(folder, enforce_eager=True, max_model_len=min(longest, LONGEST),
                 limit_mm_per_prompt={"image": 1, "video": 0}, max_num_seqs=2, seed=0)
    processor = AutoProcessor.from_pretrained(folder)
    wishes = json.loads(Path(folder, "generation_config.json").read_text())
    settings = SamplingParams(temperature=0, max_tokens=NEW_TOKENS,
                              repetition_penalty=wishes.get("repetition_penalty", 1.0))
    answers = []
    for question in questions:
        prompt = {"prompt": prompt_of(processor, question)}
        if "image" in question:
            prompt["multi_modal_data"] = {"image": open_image(question)}
        said = engine.generate([prompt], settings, use_tqdm=False)
        answers.append(said[0].outputs[0].text)
    return current_platform.device_type, answers


def probe_one(program, folder, out):
    """The child: answers to the questions on standard input, into a file."""
    ask = {"transformers": ask_transformers, "vllm": ask_vllm}[program]
    device, answers = ask(folder, json.load(sys.stdin))
    Path(out).write_text(json.dumps({"device": device, "answers": answers}))


# ---- around it ----


def root_cause(log):
    """The line of a log that says what went wrong. vLLM's engine fails in a process of its
    own, whose error stands before that of the process which waited for it."""
    said = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log.splitlines()]
    errors = []
    for line in said:
        found = re.search(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b:? ?.*)$", line)
        if found and not line.startswith("raise "):
            errors.append(found[1])
    own = [e for e in errors if "Engine core initialization failed" not in e]
    return (own or errors or said or ["it ended without a word"])[-1]


def probe(program, folder, questions):
    """The entry of one checkpoint."""
    settings = dict(os.environ, HF_HUB_OFFLINE="1", TQDM_DISABLE="1", VLLM_NO_USAGE_STATS="1",
                    PYTHONDONTWRITEBYTECODE="1")
    settings.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        out, log = Path(place, "out.json"), Path(place, "log.txt")
        command = [sys.executable, __file__, "--one", program, str(folder), str(out)]
        try:
            with open(log, "w") as file:
                subprocess.run(command, input=json.dumps(questions), env=settings, stdout=file,
                               stderr=subprocess.STDOUT, timeout=SECONDS, text=True)
            error = None if out.exists() else root_cause(log.read_text(errors="replace"))
        except subprocess.TimeoutExpired:
            error = f"no answer within {SECONDS} seconds"
        said = json.loads(out.read_text()) if out.exists() else {}
    entry = {"loads": error is None, "seconds": round(time.monotonic() - started, 1)}
    if error:
        entry["error"] = error
    else:
        entry["device"] = said["device"]
        entry["answers"] = said["answers"]
    return entry


def version_of(name):
    for candidate in (name, name + "-cpu"):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            pass
    return "unknown"


def questions_of(arguments):
    questions = []
    if arguments.captions:
        caption = Path(arguments.captions).read_text().splitlines()[arguments.first]
        questions.append({"prompt": " ".join(caption.split()[:WORDS])})
    if arguments.eval_list:
        row = json.loads(Path(arguments.eval_list).read_text().splitlines()[0])
        image = os.path.join(arguments.image_root, row["image_relpath"])
        questions.append({"prompt": QUESTION, "image": image})
    return questions


def digest_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def digest_of_model(folder):
    """Of a base model, which has no list of files: its config, and the names and sizes."""
    files = sorted((file.name, file.stat().st_size) for file in Path(folder).iterdir())
    config = digest_of(Path(folder, "config.json"))
    return hashlib.sha256(f"{config} {files}".encode()).hexdigest()


def read_record(path, head):
    """What an earlier run recorded, if it was of the same programs and questions."""
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return dict(head, checkpoints={})
    same = all(record.get(field) == value for field, value in head.items())
    return record if same else dict(head, checkpoints={})


def write_record(path, record):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    beside.replace(path)


def tell(name, entry):
    said = " / ".join(entry["answers"]) if entry["loads"] else entry["error"]
    print(f"{name}: {'answers' if entry['loads'] else 'FAILS'}: {said}", flush=True)


def probe_all(arguments):
    head = {"program": arguments.program, "version": version_of(arguments.program),
            "beside": {name: version_of(name) for name in BESIDE},
            "questions": questions_of(arguments)}
    record = read_record(arguments.out, head)
    lists = sorted(Path(arguments.folder).glob("*/layer-sensitivity/*_files.json"))
    wanted = [("base", arguments.model, {"files": digest_of_model(arguments.model)})]
    wanted += [(path.parts[-3], path.parent.parent, {"list": str(path), "files": digest_of(path)})
               for path in lists]
    there = record["checkpoints"]
    record["checkpoints"] = {name: there[name] for name, _, facts in wanted
                             if there.get(name, {}).get("files") == facts["files"]}
    for name, folder, facts in wanted:
        if name not in record["checkpoints"]:
            entry = dict(facts, **probe(arguments.program, folder, head["questions"]))
            record["checkpoints"][name] = entry
            write_record(arguments.out, record)
        tell(name, record["checkpoints"][name])
    write_record(arguments.out, record)


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--one":
        probe_one(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", choices=("vllm", "transformers"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--captions")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--eval-list")
    parser.add_argument("--image-root", default=".")
    parser.add_argument("--max-pixels", type=int)  # the processor has its own limit
    probe_all(parser.parse_args())


if __name__ == "__main__":
    main()
