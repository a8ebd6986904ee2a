# SPDX-License-Identifier: Apache-2.0
case $1 in
hello) echo "Hello, World!" ;;
stdin) cat ;;
args) shift; printf '[%s]' "$@"; echo ;;
env) echo "$GREETING" ;;
exit) exit 3 ;;
throw) set -u; inner() { echo "$no_such_variable"; }; outer() { inner; }; outer ;;
loop) while :; do :; done ;;
alloc) x=$(head -c 1G /dev/zero | tr '\0' x); echo "${#x}" ;;
flood) head -c 10485760 /dev/zero | tr '\0' x ;;
threads) for i in 1 2 3 4; do (exit "$i") & pids+=($!); done; n=0; for p in "${pids[@]}"; do wait "$p"; n=$((n + $?)); done; echo "$n" ;;
write) echo "made here" >/work/outputs/made.txt ;;
read) cat in.txt ;;
net) if (exec 3<>/dev/tcp/1.1.1.1/80) 2>/dev/null; then echo connected; else echo none; fi ;;
esac
