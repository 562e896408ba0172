"""Every text architecture, from scratch on one corpus, then read by transformers alone.

    python -m benchmarks.architectures --dataset PATH [--steps 600]

The recipe of each runs at size mini; the held-out loss stands beside that of the tokens' frequencies, and what the
pipelines of a process say in which hf_replearn cannot be imported. A few minutes each on one CPU core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._machine import machine, write_result

ROOT = Path(__file__).parents[1]
METHODS = {"bert": "masked_lm", "roberta": "masked_lm", "modernbert": "masked_lm"}
METHODS |= {"gpt2": "causal_lm", "qwen3": "causal_lm"}
PLAIN = """
import json, sys
sys.modules["hf_replearn"] = None  # importing it is an error
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline
path, method = sys.argv[1:]
said = {"AutoModel": type(AutoModel.from_pretrained(path)).__name__}
tokenizer = AutoTokenizer.from_pretrained(path)
if method == "masked_lm":
    fill = pipeline("fill-mask", path)
    text = f"She opened the {tokenizer.mask_token} and went out."
    said[text] = {guess["token_str"]: round(guess["score"], 3) for guess in fill(text)}
    said["feature-extraction"] = len(pipeline("feature-extraction", path)("A text.")[0][0])
else:
    tokens = tokenizer("She opened the", return_tensors="pt", return_token_type_ids=False)
    made = AutoModelForCausalLM.from_pretrained(path).generate(**tokens, max_new_tokens=12, do_sample=False)
    said["generate"] = tokenizer.decode(made[0])
print(json.dumps(said))
"""


def train(architecture: str, *, dataset: str, steps: int, folder: str) -> dict:
    """The held-out loss of the recipe's model, of frequencies, and what plain transformers makes of it."""
    method = METHODS[architecture]
    command = [sys.executable, str(ROOT / "recipes" / f"{method}.py"), "--architecture", architecture]
    command += ["--dataset", dataset, "--size", "mini", "--vocab_size", "8192", "--max_steps", str(steps)]
    command += ["--per_device_train_batch_size", "16", "--eval_steps", "0", "--logging_steps", "50"]
    command += ["--short_rows", "0.75" if method == "masked_lm" else "0"]
    subprocess.run([*command, "--output_dir", folder], check=True)
    training = json.loads((Path(folder) / "report.json").read_text())["training"]
    said = subprocess.run([sys.executable, "-c", PLAIN, folder, method], capture_output=True, text=True, check=True)
    seen = {name: training[name] for name in ("tokens", "seconds", "held_out")}
    return seen | {"transformers_alone": json.loads(said.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="text: a folder, a file, a Hub id or toy")
    parser.add_argument("--steps", type=int, default=600, help="of 16 rows of 128 tokens")
    args = parser.parse_args()
    results = {}
    for architecture in METHODS:
        with tempfile.TemporaryDirectory() as folder:
            results[architecture] = train(architecture, dataset=args.dataset, steps=args.steps, folder=folder)
        print(architecture, json.dumps(results[architecture], indent=2), flush=True)
    setting = {"dataset": Path(args.dataset).name, "steps": args.steps, "size": "mini", "vocabulary": 8192}
    write_result("architectures", {"models": results, "setting": setting, "machine": machine()})


if __name__ == "__main__":
    main()
