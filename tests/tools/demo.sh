#!/bin/sh
# One sentence, followed from `git push` to the record of a real Ansible run. Started by `make demo`.
# Everything lives in a temporary folder; nothing else is touched and no service is installed.
set -eu
root=$1
chiffon=$root/target/debug/chiffon
envs=$root/.venv
work=$(mktemp -d "${TMPDIR:-/tmp}/chiffon-demo.XXXXXX")
up=
finish() {
    status=$?
    if [ -n "$up" ]; then kill -TERM "$up" 2>/dev/null || :; wait "$up" 2>/dev/null || :; fi
    [ "$status" = 0 ] || { echo; echo "the demo stopped; its folder is left for a look: $work" >&2; }
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$1"; else printf '\n== %s\n' "$1"; fi; }
type_in() { if [ -t 1 ]; then printf '\033[36m$ %s\033[0m\n' "$1"; else printf '$ %s\n' "$1"; fi; }
# Waits for a command to succeed, at most about 60 s.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || { echo "waited in vain for: $*" >&2; cat "$work/up.log" >&2; exit 1; }
        sleep 0.1
    done
}
state_is() { "$chiffon" --dir "$work/chiffon" status uptime-kuma --json | grep -q "\"state\": \"$1\""; }
final() { state_is succeeded || state_is failed || state_is lost || state_is cancelled; }

# A person's own git, without this machine's configuration.
export GIT_CONFIG_GLOBAL="$work/gitconfig" GIT_CONFIG_NOSYSTEM=1
git config --global user.name "Demo"
git config --global user.email "demo@localhost"
git config --global init.defaultBranch main
git config --global advice.detachedHead false

bold "1. A homelab: six hosts, each a folder under $work/hosts"
cp -R "$root/tests/fixtures/homelab-infra" "$work/homelab-infra"
echo "homelab_root: $work/hosts" > "$work/homelab-infra/inventory/group_vars/all/root.yml"
cp "$root/tests/fixtures/vault-password" "$work/vault-password"
chmod 600 "$work/vault-password"
( cd "$work/homelab-infra" && git init -q && git add -A && git commit -q -m "The homelab as it is" )
type_in "chiffon init chiffon --infra homelab-infra"
"$chiffon" init "$work/chiffon" --infra "$work/homelab-infra" \
    --ansible-playbook "$envs/ansible-2.19/bin/ansible-playbook" --vault-password-file "$work/vault-password" | head -n 1

type_in "chiffon up &"
"$chiffon" --dir "$work/chiffon" up > "$work/up.log" 2>&1 &
up=$!

bold "2. A sentence, pushed"
git clone -q "$work/chiffon/requests.git" "$work/requests"
cd "$work/requests"
cat > requests/uptime-kuma.yaml <<'REQUEST'
# yaml-language-server: $schema=../.chiffon/schemas/request.schema.json
apiVersion: chiffon/v1
kind: Request
spec:
  text: Deploy Kuma Uptime to homelab and add existing portals to config
REQUEST
type_in "cat requests/uptime-kuma.yaml"
cat requests/uptime-kuma.yaml
type_in "git add requests && git commit -m 'Uptime Kuma, please' && git push"
git add requests && git commit -q -m "Uptime Kuma, please" && git push -q

bold "3. The plan, as its reviewer sees it (branch chiffon/plan/uptime-kuma)"
fetched() { git fetch -q origin && git rev-parse -q --verify origin/chiffon/plan/uptime-kuma; }
wait_for fetched
type_in "git show origin/chiffon/plan/uptime-kuma:plans/uptime-kuma.md"
git show origin/chiffon/plan/uptime-kuma:plans/uptime-kuma.md

bold "4. Merging it is the approval"
if [ -n "${ASK:-}" ]; then
    echo "Type this in another terminal, and the demo goes on:"
    echo "  cd $work/requests && git merge --no-edit origin/chiffon/plan/uptime-kuma && git push"
    begun() { state_is running || final; }
    until begun; do sleep 0.2; done
else
    type_in "git merge origin/chiffon/plan/uptime-kuma && git push"
    git merge -q --no-edit origin/chiffon/plan/uptime-kuma && git push -q
fi

bold "5. Ansible, live"
type_in "chiffon log uptime-kuma --follow"
"$chiffon" --dir "$work/chiffon" log uptime-kuma --follow
wait_for final

bold "6. What happened"
type_in "chiffon status uptime-kuma"
"$chiffon" --dir "$work/chiffon" status uptime-kuma
git fetch -q origin
type_in "ls hosts/nas01/*"
( cd "$work" && find hosts/nas01 -type f | sort | head -n 12 )

bold "7. The record in git"
type_in "git log origin/chiffon/audit"
git --no-pager log -n 3 origin/chiffon/audit
type_in "git show origin/chiffon/audit:status/uptime-kuma.md"
git --no-pager show origin/chiffon/audit:status/uptime-kuma.md

bold "8. The same from the database"
type_in "chiffon audit --service uptime-kuma"
"$chiffon" --dir "$work/chiffon" audit --service uptime-kuma

bold "Next"
cat <<NEXT
The folder stays: $work
  $chiffon --dir $work/chiffon up &
  $chiffon --dir $work/chiffon request "Restart Jellyfin" --wait
On your own repository:
  $chiffon init ~/chiffon --infra PATH-OR-URL-OF-YOUR-ANSIBLE-REPOSITORY
  $chiffon --dir ~/chiffon doctor
NEXT
