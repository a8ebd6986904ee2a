# SPDX-License-Identifier: Apache-2.0
# A table of t/300-fidelity.t, which says how it is read; not a script of its own.
### kill -9 $$
echo a; kill -9 $$; echo b
### kill -TERM $$
echo a; kill -TERM $$; echo b
### kill by the other signals
(kill -HUP $BASHPID); echo $?; (kill -INT $BASHPID); echo $?; (kill -QUIT $BASHPID); echo $?; (kill -USR1 $BASHPID); echo $?; (kill -ALRM $BASHPID); echo $?
### kill -INT $$
kill -INT $$; echo survived
### kill -QUIT $$
kill -QUIT $$; echo survived
### kill -PIPE $$
kill -PIPE $$; echo survived
### kill -HUP $$
kill -HUP $$; echo survived
### kill -SEGV $$
kill -SEGV $$; echo survived
### kill -ABRT $$
kill -ABRT $$; echo survived
### a program dies from a signal
bash -c 'kill -SEGV $$'; echo $?; sh -c 'kill -9 $$'; echo $?; sh -c 'kill -TERM $$'; echo $?
### the last command dies from a signal
sh -c 'kill -9 $$'
### SIGPIPE
yes | head -1; echo ${PIPESTATUS[@]}; trap '' PIPE; yes 2>err | head -1; echo ${PIPESTATUS[@]}; cat err
### EXIT trap
trap 'echo bye $?' EXIT; echo hi; exit 3
### EXIT trap changes the status
trap 'exit 9' EXIT; exit 3
### EXIT trap in a subshell
trap 'echo outer' EXIT; (trap 'echo inner' EXIT; echo sub); (echo no trap); echo end
### EXIT trap at the end
trap 'echo trap; false' EXIT; true
### EXIT trap after exec
trap 'echo not run' EXIT; exec true
### EXIT trap after a failed exec
trap 'echo run' EXIT; exec nosuchprogram; echo not reached
### EXIT trap after a syntax error
trap 'echo run $?' EXIT; eval 'if'; echo $?
### EXIT trap after an unbound variable
trap 'echo run $?' EXIT; set -u; echo $nope
### EXIT trap after a signal
trap 'echo exit $?' EXIT; kill -TERM $$; echo not reached
### EXIT trap after INT
trap 'echo exit $?' EXIT; kill -INT $$; echo not reached
### EXIT trap with TERM trap
trap 'echo exit' EXIT; trap 'echo term; exit 5' TERM; kill $$; echo not reached
### TERM trap
trap 'echo got TERM' TERM; kill $$; echo after; trap - TERM; trap -p
### several traps
for s in HUP INT QUIT USR1 USR2 ALRM; do trap "echo $s" $s; done; for s in HUP INT QUIT USR1 USR2 ALRM; do kill -$s $$; done; trap -p
### ignored signals
trap '' TERM INT; kill $$; kill -INT $$; echo alive; bash -c 'trap -p; kill $$; echo child alive'; trap - TERM; trap -p
### ERR trap
trap 'echo err $? $LINENO' ERR; false; (exit 3); true; if false; then :; fi; f() { false; }; f; set -E; f
### DEBUG trap
trap 'echo "d: $BASH_COMMAND"' DEBUG; x=1; echo $x; f() { :; }; f; for i in 1 2; do :; done
### DEBUG trap with functrace
set -T; trap 'echo "d: $BASH_COMMAND $FUNCNAME"' DEBUG; f() { echo in; }; f; (echo s)
### extdebug
shopt -s extdebug; f() { echo ${BASH_ARGV[@]} ${BASH_ARGC[@]}; }; f a b; declare -F f; trap 'false' DEBUG; echo skipped
### RETURN trap
f() { trap 'echo ret $?' RETURN; return 3; }; f; echo $?; g() { :; }; g; echo ':' >s; . ./s
### trap -l, -p, bad
trap -l | head -3; trap 'x' NOSUCH; echo $?; trap; trap 'echo 0' 0; trap -p; trap -p EXIT TERM; trap 0
### traps at the start
trap; trap -p; trap -p CHLD INT PIPE; grep -E '^Sig(Blk|Ign|Cgt|Pnd)' /proc/self/status
### masks of a child of the shell
/bin/grep -E '^(Sig|Shd)' /proc/self/status; (exec grep -E '^Sig' /proc/self/status); trap '' HUP; grep SigIgn /proc/self/status
### masks of the shell itself
grep -E '^(Sig|Shd)' /proc/$$/status
### masks of a background job
grep -E '^Sig' /proc/self/status & wait
### CHLD trap
trap 'echo chld' CHLD; /bin/true; (:); sleep 0 & wait; trap - CHLD; echo end
### trap in a function and source
f() { trap 'echo T' USR1; }; f; kill -USR1 $$; (kill -USR1 $$; trap -p); trap -p
### signal during wait
trap 'echo usr' USR1; (sleep 0.05; kill -USR1 $$) & wait; echo $?; wait; echo $?
### kill -l
kill -l | head -2; kill -l 9 TERM 137; kill -l 999; echo $?; kill -s NOSUCH $$; echo $?
### kill errors
kill; echo $?; kill 99999999; echo $?; kill -0 $$; echo $?; kill %1; echo $?; kill -0 1; echo $?
### background and wait
(exit 3) & wait $!; echo $?; sleep 0 & wait; echo $?; wait 99999; echo $?; jobs; echo "[${!:+set}]"
### wait -n
(exit 3) & wait -n; echo $?; wait -n; echo $?; (exit 4) & wait -n -p v; echo $? ${v:+set}
### wait -f and many
for i in 1 2 3; do (exit $i) & p[i]=$!; done; for i in 1 2 3; do wait ${p[i]}; echo $?; done
### jobs
sleep 5 & jobs; jobs -l | wc -l; jobs -p | wc -l; kill %1; wait %1; echo $?; jobs
### kill %1 and disown
sleep 5 & disown; jobs; disown %1; echo $?; kill $!; echo $?; sleep 5 & kill %%; wait; echo $?
### disown -h and nohup
sleep 5 & disown -h %1; jobs; kill %1; wait 2>/dev/null; echo $?; nohup echo a; ls
### job control is off
fg; echo $?; bg; echo $?; set -o | grep monitor; suspend; echo $?
### set -m
set -m; sleep 0.01 & wait; echo $?; jobs; (sleep 0.5; exit 2) & fg; echo $?
### set -m and process groups
set -m; sh -c 'read _ _ _ _ pg _ </proc/self/stat; [ $pg = $$ ] && echo own group'; set +m; sh -c 'read _ _ _ _ pg _ </proc/self/stat; [ $pg = $PPID ] && echo the same'
### process group of the shell; a cast is no leader of its session
read pid c s ppid pg sid tty tpg _ </proc/$$/stat; [ $pg = $$ ] && echo leader; echo $tty $tpg
### stop and continue
sleep 5 & kill -STOP $!; kill -CONT $!; kill $!; wait $!; echo $?
### background reads /dev/null < text
cat & wait; cat
### background output
echo a & wait; { sleep 0.02; echo late; } & wait $!; echo end
### leftover is not waited for
sleep 5 & echo done
### timeout(1)
timeout 0.05 sleep 5; echo $?; timeout -s KILL 0.05 sleep 5; echo $?
### nested shells and signals
bash -c 'trap "echo inner" TERM; kill $$; echo in'; bash -c 'kill -9 $$'; echo $?; (kill -9 $BASHPID); echo $?
### ulimit
ulimit -a; ulimit -Sa | md5sum; ulimit -Ha | md5sum
### ulimit lowered
ulimit -n 50; ulimit -n; ulimit -n 60; echo $?; (ulimit -f 0; echo a >f; echo no); echo $?; ulimit -c 0; ulimit -c; ulimit -x; ulimit -t abc
### umask
umask; umask -S; umask -p; umask 077; touch f; mkdir d; umask; umask u=rwx,g=,o=; umask 999; echo $?
