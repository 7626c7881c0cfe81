"""The peer of B4, run by b4.py in an environment of its own: Celery as carefully as it can be set up. Orders are
persistent, confirmed and on a quorum queue, acknowledged after the work, and results are rows of PostgreSQL."""

import json
import os
import subprocess
import sys
import time

from celery import Celery

OPTIONS = json.loads(os.environ.get("CELERY_PEER") or sys.argv[1])
PAYLOAD = "x" * 1024

app = Celery("celery_peer", broker=OPTIONS["amqp"])
app.conf.update(
    result_backend=OPTIONS["postgres"].replace("postgres://", "db+postgresql+psycopg://"),
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue_type="quorum",
    task_default_exchange_type="direct",
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=16,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


@app.task
def echo(payload):
    """Sends back what came."""
    return payload


def measure(single, many):
    """Times of tasks one at a time, tasks a second, and how many results are not there."""
    echo.delay(PAYLOAD).get(timeout=60, interval=0.05)
    took = []
    for _ in range(single):
        begun = time.monotonic()
        answer = echo.delay(PAYLOAD).get(timeout=60, interval=0.001)
        took.append((time.monotonic() - begun) * 1000)
        assert answer == PAYLOAD
    begun = time.monotonic()
    last = time.monotonic()
    before = recorded()
    for _ in range(many):
        echo.delay(PAYLOAD)
    found = 0
    # Until all are there, or nothing came for a while.
    while found < many and time.monotonic() - last < 30:
        time.sleep(0.02)
        now = recorded() - before
        last = time.monotonic() if now > found else last
        found = now
    rate = found / (last - begun)
    took.sort()
    at = lambda percent: took[len(took) * percent // 100]
    return {"p50_ms": at(50), "p99_ms": at(99), "rate": rate, "not_recorded": many - found}


def recorded():
    """Results that are rows."""
    import psycopg

    with psycopg.connect(OPTIONS["postgres"], autocommit=True) as database:
        return database.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'").fetchone()[0]


def main():
    environment = os.environ | {"CELERY_PEER": sys.argv[1], "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    command = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "--concurrency", "2", "--loglevel", "ERROR"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        print(json.dumps(measure(OPTIONS["single"], OPTIONS["many"])))
    finally:
        worker.terminate()
        worker.wait(60)


if __name__ == "__main__":
    main()
