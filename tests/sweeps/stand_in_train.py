"""Stands in for tools/train.py: a training of no time, that can fail, be slow, or stop halfway."""

import hashlib
import json
import shutil
import signal
import sys
import time
from pathlib import Path

argv = sys.argv[1:]
here = Path(__file__).resolve().parent
out = Path(argv[argv.index("--out") + 1])
seed = int(argv[argv.index("--seed") + 1])
name = f"{out.parent.name}/{out.name}"
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"name": name, "argv": argv}) + "\n")
does = json.loads((here / "does.json").read_text()).get(name)
print("a line of the log")
if does == "fail":
    sys.exit("error: no such data")


def stop(number, frame):
    shutil.copy(here / "weights.pth", out / "epoch_1.pth")
    sys.exit(128 + number)


if does == "slow":
    signal.signal(signal.SIGTERM, stop)
    (out / "at_work").touch()
    time.sleep(60)
shutil.copy(here / "weights.pth", out / "epoch_2.pth")
digest = hashlib.sha256((out / "epoch_2.pth").read_bytes()).hexdigest()
results = {
    "checkpoint": str(out / "epoch_2.pth"),
    "checkpoint_sha256": digest,
    "settings": {"seed": seed},
    "metrics": {},
    "seconds": 60.0 + seed,
}
(out / "results.json").write_text(json.dumps(results))
