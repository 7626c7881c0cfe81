"""An agent written from docs/protocol.md alone: it shows that the page is enough. Its work is one line in a file, and
lasts for as long as a file `hold` lies beside it. It asks no git and never notices that it slept: give it no real work."""
import argparse, base64, binascii, fcntl, json, os, pathlib, queue, secrets, threading, time
from hashlib import sha256
from urllib.parse import unquote, urlsplit
import pika
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY = {"run", "plan", "mode", "step", "attempt"}
FIELDS = {"order": {"key", "approved_by", "plan_path", "infra", "step"}, "cancel": {"key"},
          "grant": {"key", "boot", "fence", "order", "at"}, "refuse": {"key", "reason"}, "stored": {"key", "seq"},
          "introduce": set()}
class Unreadable(Exception): pass
def unseal(body, agent, public):  # The message in an envelope, and its digest.
    if len(body) > 1024 * 1024: raise Unreadable(f"oversized: {len(body)} bytes")
    try:
        envelope = json.loads(body)
        if type(envelope["v"]) is int and envelope["v"] != 1: raise Unreadable(f"unknown version {envelope['v']}")
        signed = envelope["signed"].encode()
        public.verify(base64.b64decode(envelope["signature"]), f"chiffon v1 to {agent}\n".encode() + signed)
        message = json.loads(signed)
        same = set(message) == FIELDS[message["type"]] | {"type"} and set(message.get("key", KEY)) == KEY
        if same and len(envelope) == 3 and type(envelope["v"]) is int: return message, sha256(signed).hexdigest()
    except (InvalidSignature, binascii.Error): raise Unreadable("forged: it is not signed for this agent")
    except (ValueError, KeyError, TypeError, AttributeError) as error: raise Unreadable(f"malformed: {error!r}")
    raise Unreadable("malformed: not the fields that it should have")

def over(verdict, log, settled=False):
    """The change that ends an attempt with this log."""
    size, name = len(log.encode()), sha256(log.encode()).hexdigest()
    digest = {"sha256": name, "bytes": size, "chunks": int(size > 0), "incomplete": settled}
    outcome = {"type": "over", "verdict": verdict, "recap": {}, "duration_ms": 0, "log": digest}
    return {"stage": "over", "settled": settled, "body": outcome}

class Journal:
    """What is known of attempts: one line for each change, synced before anything follows from it."""
    def __init__(self, folder):
        self.attempts, self.highest = {}, None
        self.file = open(pathlib.Path(folder, "journal.jsonl"), "a+b", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.file.seek(0)
        whole, newline, _torn = self.file.read().rpartition(b"\n")
        self.file.truncate(len(whole + newline))
        for line in whole.splitlines(): self.apply(json.loads(line))
    def write(self, key, **change):
        self.file.write(json.dumps({"key": key, **change}).encode() + b"\n")
        os.fsync(self.file.fileno())
        return self.apply({"key": key, **change})
    def apply(self, change):
        name, new = json.dumps(change["key"], sort_keys=True), {"reports": [], "stored": 0, "sent": 0, "sent_at": 0}
        attempt = self.attempts.setdefault(name, new | {"cancel": threading.Event()})
        if "body" in change: attempt["reports"].append(change.pop("body"))
        attempt.update(change, sent=max(attempt["sent"], change.get("stored", 0)))
        self.highest = change.get("fence", self.highest)
        if attempt["stage"] == "forgotten": del self.attempts[name]
        return attempt

class Agent:
    def __init__(self, args):
        self.args, self.events, self.journal, self.greeted = args, queue.Queue(), Journal(args.folder), False
        self.boot = "0" + "".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(25))
        self.public = Ed25519PublicKey.from_public_bytes(base64.b64decode(args.reconciler_key))
        self.hello = {"type": "hello", "kind": "infra", "settled": [], "ended": []}
        for attempt in self.journal.attempts.values():
            key, log = attempt["key"], "".join(report.get("text", "") for report in attempt["reports"])
            # The work was a thread of a process that is gone: nothing of it is alive.
            if attempt["stage"] == "started": self.journal.write(key, **over("lost", log, settled=True))
            if attempt["stage"] == "claimed": settled = {"started": False}
            elif attempt["stored"] == len(attempt["reports"]): continue
            elif attempt["settled"]: settled = {"started": True, "fence": attempt["fence"]}
            else: self.hello["ended"].append({"key": key, "fence": attempt["fence"]}); continue
            self.hello["settled"].append({"key": key, "clean": True, **settled})

    def live(self, channel):
        self.channel, beat_at = channel, 0
        channel.confirm_delivery(), channel.basic_qos(prefetch_count=64)
        self.greeted = self.greeted or self.say(**self.hello) or True
        for method, _, body in channel.consume(f"work.v1.{self.args.agent}", inactivity_timeout=0.05):
            if method: self.receive(method.delivery_tag, body)
            while not self.events.empty(): self.journal.write(**self.events.get())
            for attempt in self.journal.attempts.values(): self.report(attempt)
            if time.monotonic() < beat_at: continue
            beat_at = time.monotonic() + self.args.heartbeat
            self.say("live", type="heartbeat")
            for attempt in self.journal.attempts.values(): self.claim(attempt)
    def publish(self, exchange, body, headers=None):
        how = pika.BasicProperties(content_type="application/json", delivery_mode=2, headers=headers)
        while True:
            try: return self.channel.basic_publish(f"chiffon.v1.{exchange}", self.args.agent, body, how, mandatory=True)
            except (pika.exceptions.NackError, pika.exceptions.UnroutableError): self.channel.connection.sleep(0.5)
    def say(self, exchange="reports", **message):
        said = {"v": 1, "message": {"agent": self.args.agent, "boot": self.boot, "message": message}}
        self.publish(exchange, json.dumps(said).encode())
    def decline(self, key, reason, **grant): self.say(type="decline", key=key, reason=reason, **grant)
    def claim(self, attempt):
        if attempt["stage"] == "claimed" and not attempt["cancel"].is_set(): self.say(type="claim", key=attempt["key"])
    def report(self, attempt, again=False):
        if again or attempt["sent"] > attempt["stored"] and time.monotonic() > attempt["sent_at"] + self.args.replay:
            attempt["sent"] = min(attempt["stored"], len(attempt["reports"]) - 1)
        for body in attempt["reports"][attempt["sent"]:]:
            attempt.update(sent=attempt["sent"] + 1, sent_at=time.monotonic())
            self.say(type="report", key=attempt["key"], fence=attempt["fence"], seq=attempt["sent"], body=body)
    def receive(self, tag, body):
        try: said, digest = unseal(body, self.args.agent, self.public)
        except Unreadable as why:
            headers = {"chiffon-direction": "to-agent", "chiffon-reason": str(why)[:1000], "chiffon-size": len(body)}
            self.publish("parked", body[:4096], headers)
        else: self.hear(said["type"], said["key"], said, digest) if "key" in said else self.say(**self.hello)
        self.channel.basic_ack(tag)
    def hear(self, kind, key, message, digest):
        attempt = self.journal.attempts.get(json.dumps(key, sort_keys=True), {"stage": None})
        grant = {"fence": message["fence"]} if kind == "grant" else {}
        match kind, attempt["stage"]:
            case "order", None: self.claim(self.journal.write(key, stage="claimed", digest=digest))
            case "order", "claimed": attempt["cancel"].clear() or self.claim(attempt)
            case "grant", _ if message["boot"] != self.boot: pass
            case "grant" | "cancel", None: self.decline(key, "there is no such order", **grant)
            case "grant", _ if message["order"] != attempt["digest"]: self.decline(key, "it is for another order", **grant)
            case "grant", "claimed": self.start(key, message["fence"], attempt)
            case "cancel", "claimed": attempt["cancel"].set() or self.decline(key, "cancelled before it was granted")
            case "cancel", "started": attempt["cancel"].set()
            case "order" | "grant" | "cancel", _: self.report(attempt, again=True)
            case "refuse", "claimed": self.journal.write(key, stage="forgotten")
            case "stored", "started" | "over" if message["seq"] > attempt["stored"]:
                self.journal.write(key, stored=message["seq"])["sent_at"] = time.monotonic()
    def start(self, key, fence, attempt):
        highest = self.journal.highest or {**fence, "counter": -1}
        if fence["incarnation"] != highest["incarnation"] or fence["counter"] <= highest["counter"]:
            return self.decline(key, f"the fence {fence} is not above {highest}", fence=fence)
        if attempt["cancel"].is_set(): return self.journal.write(key, fence=fence, **over("cancelled", ""))
        self.journal.write(key, stage="started", fence=fence, body={"type": "started"})
        threading.Thread(target=self.work, args=(key, attempt["cancel"]), daemon=True).start()
    def work(self, key, cancel):
        with open(pathlib.Path(self.args.work, key["step"]), "a") as file: file.write("started\n")
        log = f"{key['step']} did its line\n"
        self.events.put({"key": key, "body": {"type": "log", "chunk": 0, "text": log}})
        while pathlib.Path(self.args.work, "hold").exists() and not cancel.wait(0.02): pass
        self.events.put({"key": key, **over("cancelled" if cancel.is_set() else "succeeded", log)})

parser = argparse.ArgumentParser(description=__doc__)
for option in ("amqp-url", "password-file", "reconciler-key", "agent", "folder", "work", "heartbeat", "replay"):
    parser.add_argument(f"--{option}", required=True, type=float if option in ("heartbeat", "replay") else str)
agent = Agent(parser.parse_args())
url, password = urlsplit(agent.args.amqp_url), pathlib.Path(agent.args.password_file).read_text().strip()
login = pika.PlainCredentials(unquote(url.username), password)
place = pika.ConnectionParameters(url.hostname, url.port, unquote(url.path[1:]), login, heartbeat=10)
while True:
    try: agent.live(pika.BlockingConnection(place).channel())
    except pika.exceptions.AMQPError: time.sleep(0.5)
