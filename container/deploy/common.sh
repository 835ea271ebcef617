# For the deploy scripts beside it: sourced, not run.
#
# A script writes its commands as one shell program, the plan. `--dry-run` prints it; else
# it is shown, asked about, and run as it was shown, so that the two cannot differ. Keys are
# in no plan: it reads them from the environment when it runs.

fail() {
  printf '%s: %s\n' "$0" "$*" >&2
  exit 2
}

# The comment at the top of the script is its help.
help() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
}

needs() {
  local missing=()
  for tool in "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} = 0 ] || fail "please install ${missing[*]}"
}

# What pushes images: docker where its daemon runs, as in container/build, else podman.
engine() {
  if docker info >/dev/null 2>&1; then echo docker; else echo podman; fi
}

# A price of the load harness's table, in dollars.
# shellcheck disable=SC2154 # root is set by the script
price() {
  awk -F , -v item="$1" '$1 == item { print $3; found = 1 } END { exit !found }' "$root/loadtest/prices.csv" ||
    fail "loadtest/prices.csv has no row $1"
}

calculate() {
  awk "BEGIN { printf \"$1\", $2 }"
}

# Shows the plan on standard input, and runs it if it may: act DRY-RUN YES.
act() {
  local plan answer
  plan=$(cat)
  if [ "$1" = yes ]; then
    printf '%s\n' "$plan"
    return
  fi
  printf '\nThis will run:\n\n%s\n\n' "$plan"
  if [ "$2" != yes ]; then
    read -rp "Continue? [y/N] " answer </dev/tty || true
    [[ ${answer:-} == [yY]* ]] || fail "cancelled; nothing was changed"
  fi
  bash -euo pipefail -c "$plan"
}
