"""What vLLM's engine makes of a checkpoint: greedy answers to quern's prompts, with log
probabilities, and how it built every linear and cache. In a process of its own, since an engine that
fails to load takes its process with it.

    vllm_answers.py CHECKPOINT OUT.json
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # for apply_model

import quern
import vllm_linears

LONGEST = 512  # tokens


def ask(engine, processor, case, settings):
    if case.get("image"):
        from PIL import Image

        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": case["text"]}]}
        prompt = {"prompt": processor.apply_chat_template([turn], add_generation_prompt=True),
                  "multi_modal_data": {"image": Image.open(case["image"]).convert("RGB")}}
    else:
        prompt = {"prompt": case["text"]}
    said = engine.generate([prompt], settings, use_tqdm=False)[0]
    answer = said.outputs[0]
    first = answer.token_ids[0]
    return {"ids": list(said.prompt_token_ids), "text": answer.text, "first": first,
            "first_logprob": answer.logprobs[0][first].logprob}


def main():
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams

    checkpoint, out = Path(sys.argv[1]), Path(sys.argv[2])
    wishes = json.loads((checkpoint / "generation_config.json").read_text())
    settings = SamplingParams(temperature=0, max_tokens=quern.MOST_NEW, logprobs=1,
                              repetition_penalty=wishes.get("repetition_penalty", 1.0))
    engine = LLM(str(checkpoint), dtype="bfloat16", seed=0, enforce_eager=True,
                 max_model_len=LONGEST, max_num_batched_tokens=LONGEST, max_num_seqs=2,
                 limit_mm_per_prompt={"image": 1, "video": 0})
    processor = AutoProcessor.from_pretrained(str(checkpoint))
    answers = {case["name"]: ask(engine, processor, case, settings)
               for case in quern.greedy_cases()}
    linears = engine.apply_model(vllm_linears.list_linears)[0]
    caches = engine.apply_model(vllm_linears.list_caches)[0]
    out.write_text(json.dumps({"answers": answers, "linears": linears, "caches": caches},
                              indent=1))


if __name__ == "__main__":
    main()
