"""B4: a step that does nothing, over broker and database, beside what they take for the least of it, and beside Celery."""

import json
import pathlib
import statistics
import subprocess
import sys

from services import Place, measure

# Pinned, so that the peer is the same next year.
PACKAGES = ["celery==5.5.3", "sqlalchemy==2.0.43", "psycopg[binary]==3.2.10"]


def run(root, binary, rounds, single, many):
    """Medians over rounds in which ours and Celery come in turn."""
    python = environment(pathlib.Path(root) / ".venv/bench")
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(at_a_place(lambda place: measure(binary, "step", place, single=single, many=many, parallel=4)))
        peer.append(at_a_place(lambda place: celery(python, place, single, many)))
    middle = lambda of, key: statistics.median(round[key] for round in of)
    beside = [
        ("ask and answer on quorum queues", middle(ours, "ask_ms")), ("commit", middle(ours, "commit_ms")),
        ("Celery", middle(peer, "p50_ms")),
    ]
    spent = [(part, middle(ours, f"{part}_ms")) for part in ("ticks", "messages", "waiting")]
    lost = lambda of: sum(round["not_recorded"] for round in of)
    return [
        {"id": "B4", "what": "no-op step, p50", "ours": middle(ours, "p50_ms"), "unit": "ms", "most": 10, "beside": beside},
        {"id": "B4", "what": "no-op step, p99", "ours": middle(ours, "p99_ms"), "unit": "ms",
         "beside": [("Celery", middle(peer, "p99_ms"))] },
        {"id": "B4", "what": f"{many} no-op steps", "ours": middle(ours, "rate"), "unit": "/s", "least": 900,
         "beside": [("Celery", middle(peer, "rate"))]},
        {"id": "B4", "what": "results not recorded", "ours": lost(ours), "unit": "", "most": 0,
         "beside": [("Celery", lost(peer))]},
    ]


def at_a_place(do):
    """Does something at a place of its own."""
    place = Place()
    try:
        return do(place)
    finally:
        place.close()


def environment(folder):
    """The Python of a private environment with the peer in it, made on first use."""
    ready = folder / ".ready"
    if not ready.exists() or ready.read_text() != "\n".join(PACKAGES):
        print(f"making {folder} with {', '.join(PACKAGES)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(pip + PACKAGES, check=True)
        ready.write_text("\n".join(PACKAGES))
    return folder / "bin/python"


def celery(python, place, single, many):
    """The same of Celery."""
    script = pathlib.Path(__file__).parent / "celery_peer.py"
    options = json.dumps({"amqp": place.amqp, "postgres": place.postgres, "single": single, "many": many})
    done = subprocess.run([python, script, options], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)
