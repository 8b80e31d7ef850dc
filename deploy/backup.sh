#!/bin/sh
# Copies the counters of a service, which may be running, to a new directory: backup.sh DATA_DIR NEW_DIR
set -eu
umask 077
if [ $# -ne 2 ] || [ ! -d "$1/do" ] || [ -e "$2" ]; then
  echo "Usage: backup.sh DATA_DIR NEW_DIR. DATA_DIR is the data directory of a service, and NEW_DIR does not exist yet." >&2
  exit 2
fi
command -v sqlite3 >/dev/null || { echo "sqlite3 is missing. Install it: apt-get install sqlite3" >&2; exit 1; }
data=$(cd "$1" && pwd)
# Whoever finds NEW_DIR finds all of it.
mkdir "$2.partial"
trap 'rm -rf "$2.partial"' EXIT
databases=$(cd "$data" && find do -name '*.sqlite')
(
  cd "$2.partial"
  # In this order metadata.sqlite comes after the objects of its directory. It has their alarms, and must miss none.
  for database in $(printf '%s\n' "$databases" | LC_ALL=C sort); do
    mkdir -p "${database%/*}"
    # One read transaction: the copy is of one instant, and the service goes on writing.
    sqlite3 -bail -readonly -cmd '.timeout 10000' "$data/$database" "VACUUM INTO '$database'"
    [ "$(sqlite3 -readonly "$database" 'PRAGMA quick_check')" = ok ]
  done
  # These files alone: the service waits for the disk too.
  find . -exec sync {} +
)
mv "$2.partial" "$2"
