"""Tells the agent what ansible-playbook does: one JSON object a line, numbered, into a private pipe.

Runs on ansible-core 2.14 to 2.19. Never writes result bodies, and of a no_log task nothing but its status. The first
message hands over every value that this run's vault secrets can decrypt; where that fails nothing is run at all.
"""
import gc
import json
import os
import re
import sys
import time

import yaml
from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: chiffon_events
    type: notification
    short_description: events for the agent that started this run
    description: Writes events as JSON lines to the pipe of the agent that started this run.
"""

# Lines of ciphertext are 80 digits wide as Ansible writes them, and of any width as it reads them.
CIPHERTEXT = re.compile(rb'\$ANSIBLE_VAULT;[0-9.]+;AES256[^\n]*\n(?:[ \t\r]*[0-9a-f]+[ \t\r]*(?:\n|$|(?=[^0-9a-f \t\r\n])))+')
PLAIN_WORDS = {'true', 'false', 'yes', 'no', 'on', 'off', 'null', 'none', '~', ''}
VAGUE = ('non-zero return code', 'MODULE FAILURE', 'Module result deserialization failed')
REFUSED = 70
LONGEST_LINE = 16 * 1024 * 1024 - 1024
LONGEST_MESSAGE = 64 * 1024


def leaves(node):
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        return [leaf for child in node for leaf in leaves(child)]
    return [] if node.strip().lower() in PLAIN_WORDS else [node]


def values_of(text, whole_file):
    """The scalars of a vaulted YAML file; the text itself where it is none."""
    if whole_file:
        try:
            documents = list(yaml.load_all(text, Loader=yaml.BaseLoader))
        except (yaml.YAMLError, ValueError):
            documents = []
        if documents and all(isinstance(document, (dict, list)) for document in documents):
            return leaves(documents)
    return leaves(text)


def bounded(text):
    """The text, which the agent cuts once its secrets are removed; a cut here could go through one of them."""
    return text if len(text) <= LONGEST_MESSAGE else 'a message of %d characters' % len(text)


def whole(text):
    """Text without the half characters that stand for bytes which are none."""
    return text.encode('utf-8', 'replace').decode()


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'notification'
    CALLBACK_NAME = 'chiffon_events'
    CALLBACK_NEEDS_ENABLED = True
    CALLBACK_NEEDS_WHITELIST = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Taken out of the environment, so that no task is told of them.
        self.folder = os.environ.pop('CHIFFON_PRIVATE', None)
        self.disabled = self.folder is None
        self.seq, self.names, self.began = 0, {}, {}
        self.plays, self.reached = [], {}
        if self.folder:
            self.pipe = int(os.environ.pop('CHIFFON_EVENTS'))
            os.set_inheritable(self.pipe, False)

    def emit(self, event, **fields):
        self.seq += 1
        fields = {key: whole(value) if isinstance(value, str) else value for key, value in fields.items()}
        line = json.dumps(dict(fields, seq=self.seq, event=event)).encode() + b'\n'
        if len(line) > LONGEST_LINE and event == 'secrets':
            self.refuse('the vault values of this repository are %d bytes, too many to be searched for' % len(line))
        try:
            while line:
                line = line[os.write(self.pipe, line):]
        except OSError:
            self.disabled = True  # The agent sees the gap, or no recap.

    def refuse(self, reason):
        self.emit('refused', reason=reason)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(REFUSED)  # An exception here would be a warning, and the run would go on.

    def read(self, name):
        with open(os.path.join(self.folder, name), encoding='utf-8') as file:
            return file.read()

    def secrets(self, loader):
        values = []
        for path in json.loads(self.read('vaulted.json')):
            with open(path, 'rb') as file:
                data = file.read()
            whole_file = data.startswith(b'$ANSIBLE_VAULT')
            # In JSON a line end is written `\n`.
            for match in CIPHERTEXT.finditer(data.replace(b'\\n', b'\n')):
                try:
                    text = loader._vault.decrypt(b'\n'.join(match.group().split()) + b'\n')
                    values += values_of(text.decode('utf-8', 'replace'), whole_file)
                except Exception as error:
                    self.refuse('a vault value in %s can not be decrypted (%s)' % (path, type(error).__name__))
        return values

    def v2_playbook_on_start(self, playbook):
        try:
            self.emit('secrets', values=self.secrets(playbook._loader))
            self.planned = set(self.read('limit').split())
            self.plays = playbook.get_plays()
        except Exception as error:
            self.refuse('the secrets of this run can not be collected (%s)' % type(error).__name__)
        if self.disabled:
            os._exit(REFUSED)

    def v2_playbook_on_play_start(self, play):
        try:
            hosts = play.get_variable_manager()._inventory.get_hosts(play.hosts)
            others = sorted({host.get_name() for host in hosts} - self.planned)
        except Exception as error:
            self.refuse('the hosts of a play can not be told (%s)' % type(error).__name__)
        if others:
            self.refuse('the limit matches hosts that are not in the plan: %s' % ', '.join(others))
        self.reached.setdefault(play._uuid, set()).update(host.get_name() for host in hosts)
        self.emit('play', name=play.get_name())

    def v2_playbook_on_no_hosts_matched(self):
        self.emit('no_hosts_matched')

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.names[task._uuid] = task.get_name().strip()
        self.emit('task', task=self.names[task._uuid], action=task.action, named=bool(task.name))

    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_cleanup_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host, task):
        self.began[host.get_name(), task._uuid] = time.monotonic()
        self.emit('start', host=host.get_name(), task=self.name(task))

    def name(self, task):
        return self.names.get(task._uuid) or task.get_name().strip()

    def report(self, result, status, ignored=False):
        host, task, fields = result._host.get_name(), result._task, {}
        if status in ('failed', 'unreachable'):
            fields['msg'] = self.cause(result._result)
        secs = time.monotonic() - self.began.pop((host, task._uuid), time.monotonic())
        self.emit('host', host=host, task=self.name(task), action=task.action, status=status,
                  ignored=bool(ignored), secs=round(secs, 3), **fields)

    def cause(self, result):
        failed = [item for item in result.get('results') or [] if isinstance(item, dict) and item.get('failed')]
        result = failed[0] if failed else result
        if 'censored' in result or result.get('_ansible_no_log'):
            return 'hidden, since the task says no_log'
        text = str(result.get('msg') or result.get('reason') or 'no message').strip()
        if any(word in text.split('\n')[0] for word in VAGUE):
            for key in ('stderr', 'module_stderr', 'stdout', 'module_stdout'):
                lines = str(result.get(key) or '').strip().splitlines()
                if lines:
                    last = lines[-1] if key.startswith('module') else lines[0]
                    return bounded('%s: %s' % (text.splitlines()[0], last))
        return bounded(text.splitlines()[0])

    def v2_runner_on_ok(self, result):
        self.report(result, 'changed' if result._result.get('changed') else 'ok')

    def v2_runner_on_skipped(self, result):
        self.report(result, 'skipped')

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.report(result, 'failed', ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self.report(result, 'unreachable', getattr(result._task, 'ignore_unreachable', False))

    def v2_playbook_on_stats(self, stats):
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        try:
            finished = self.finished(hosts)
        except Exception:
            finished = []  # Nothing is proved: a retry does every host again.
        self.emit('recap', hosts=hosts, finished=finished)

    def finished(self, hosts):
        """The hosts that came to the end of every play, of those in the recap.

        A recap without failures does not say so: any_errors_fatal, run_once and max_fail_percentage end a play for
        hosts that are well, a batch of which every host failed ends the playbook, and the next batches never begin.
        """
        if not self.plays or self.plays[-1]._uuid not in self.reached:
            return []
        managers = [found for found in gc.get_objects() if type(found) is TaskQueueManager]
        given_up = {host for manager in managers for host in (*manager._failed_hosts, *manager._unreachable_hosts)}
        left = set(hosts) - given_up if managers else set()
        if self.plays[-1].serial:
            left &= self.reached[self.plays[-1]._uuid]
        return sorted(left)
