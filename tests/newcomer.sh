#!/usr/bin/env bash
# Somebody who follows only the README gets from nothing to a polyglot in the quarantine. The commands
# are read from the README and run in a copy of the project in which nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
daemon=
finish() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$fresh"
}
trap finish EXIT
git ls-files -z | xargs -0 cp --parents --target-directory "$fresh"
cd "$fresh"

block() { # NUMBER: a block of shell commands of the README
    awk -v RS='```' -v number="$1" 'NR % 2 == 0 && /^sh\n/ && ++seen == number { sub(/^sh\n/, ""); printf "%s", $0 }' README.md
}
fail() {
    echo "newcomer: $*" >&2
    exit 1
}

try=$(block 1) guard=$(block 2) look=$(block 3)
echo "+ $try"
code=0
bash -euc "$try" >tried || code=$?
cat tried
[ "$code" = 1 ] || fail "something was found, but the exit code is $code"
grep -q '^clean  *tests/fixtures/clean/ct.dcm' tried || fail "the honest file is not clean"
grep -q 'EMB-PE' tried || fail "the program was not named"

echo "+ $guard"
eval "$guard"
daemon=$!

echo "+ $look"
for _ in $(seq 120); do
    bash -euc "$look" >listed 2>/dev/null || true
    if grep -q "malicious .*poly-pe.dcm" listed && [ -e archive/ct.dcm ]; then
        cat listed
        [ -z "$(ls incoming)" ] || fail "something is still in the ingest folder"
        cmp -s archive/ct.dcm tests/fixtures/clean/ct.dcm || fail "the honest file was changed"
        echo "newcomer: a polyglot is in the quarantine"
        exit 0
    fi
    sleep 0.5
done
fail "the polyglot did not reach the quarantine: $(cat listed)"
