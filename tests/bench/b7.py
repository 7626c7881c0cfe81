"""B7: runs of five shapes, from the end of the push that approves to the record, beside plain `ansible-playbook`."""

import json
import statistics
import subprocess
import time

from bed import Bed

LINES = 50_000
SHAPES = {
    "beacon": ("one debug task", "    - name: say it\n      ansible.builtin.debug: {msg: hello}\n", 1),
    "lighthouse": (
        "50 tasks",
        "".join(f"    - name: say {n}\n      ansible.builtin.debug: {{msg: hello}}\n" for n in range(50)),
        1,
    ),
    "foghorn": (
        "10 command tasks",
        "".join(f"    - name: run {n}\n      ansible.builtin.command: {{cmd: 'true'}}\n" for n in range(10)),
        1,
    ),
    "torrent": (
        "50 000 lines",
        f"    - name: flood\n      ansible.builtin.debug: {{msg: \"{{{{ range({LINES}) | list }}}}\"}}\n",
        1,
    ),
    "harbour": ("10 hosts", "    - name: say it\n      ansible.builtin.debug: {msg: hello}\n", 10),
}


def run(root, binary, rounds):
    """Medians of each shape, alternating."""
    return [shape(root, binary, rounds, word, *SHAPES[word]) for word in SHAPES]


def shape(root, binary, rounds, word, what, tasks, hosts):
    """One shape: from the end of the push on (the push itself is in B2), and the run alone by the agent's clock."""
    bed = Bed(root, binary, {word: tasks}, hosts)
    try:
        bed.start()
        ours, agent, plain = [], [], []
        for number in range(rounds + 1):
            name = f"request-{number}"
            bed.commit_request(name, f"Deploy {word}")
            bed.push()
            bed.plan(name)
            bed.merge(name)
            whole, pushed = bed.approve_and_wait(name)
            ours.append(whole - pushed)
            status = json.loads(bed.run([bed.binary, "--dir", bed.home, "status", name, "--json"]))
            agent.append(status["run"]["attempts"][0]["outcome"]["duration_ms"] / 1000)
            plain.append(by_itself(bed, word))
        return {
            "id": "B7", "what": what, "ours_s": statistics.median(ours[1:]), "floor_s": statistics.median(plain[1:]),
            "floor": "plain ansible-playbook", "goal": 1.05, "run_s": statistics.median(agent[1:]),
        }
    finally:
        bed.close()


def by_itself(bed, word):
    """The playbook without anybody around it, its output in a file."""
    with open(bed.folder / "plain.log", "w", encoding="utf-8") as log:
        begun = time.monotonic()
        command = [str(bed.ansible), "-i", "inventory/hosts.yml", f"playbooks/{word}-deployment.yml"]
        subprocess.run(command, cwd=bed.infra, env=bed.env, check=True, stdout=log, stderr=log)
        return time.monotonic() - begun
