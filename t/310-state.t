# SPDX-License-Identifier: Apache-2.0
# All that bash can print about itself and all that /proc says about its process, as a fork of the warm
# bash and as an exec'ed `bash -c`. Each entry: name, command, and what of it may differ with the reason.
use lib 't/lib';
use Brood;
use Brood::Pair;

my @shell_vars = (
    [qr/^((?:declare \S+ )?(?:RANDOM|SRANDOM|BASHPID|EPOCHSECONDS|EPOCHREALTIME|SECONDS)=).*/m, 'random numbers, pids and the clock'],
    [qr/^((?:declare -ir )?PPID=).*/m, 'a pid'],
);
my @pids = [qr/^((?:Ngid|Pid|Tgid|PPid|NStgid|NSpid|NSpgid|NSsid):).*/m, 'pids'];
my @memory = (
    [qr/^((?:Vm|Rss|Hugetlb)\w+:).*/m, 'a fork has the mappings of a fork'],
    [qr/^((?:non)?voluntary_ctxt_switches:).*/m, 'the scheduler'],
    [qr/^(State:).*/m, 'the scheduler'],
);

# A loop of builtins only, so that the process shown is the shell itself.
sub cat { return 'while IFS= read -r l; do printf "%s\n" "$l"; done < /proc/$$/' . shift }
sub zcat { return 'while IFS= read -r -d "" l || [[ $l ]]; do printf "%s\n" "$l"; done < /proc/$$/' . shift }

my @dump = (
    ['declare -p', 'declare -p', @shell_vars],
    ['set', 'set', @shell_vars],
    ['set in posix mode', 'set -o posix; set', @shell_vars],
    ['declare -f, -F', 'declare -f; declare -F'],
    ['export -p, readonly -p', 'export -p; readonly -p', @shell_vars],
    ['shopt', 'shopt; shopt -p; shopt -o; set +o; echo $-'],
    ['trap -p', 'trap -p; trap'],
    ['ulimit -a', 'ulimit -Sa; ulimit -Ha; umask'],
    ['alias', 'alias; unalias -a'],
    ['hash', 'hash -l; hash'],
    ['enable -a', 'enable -a; enable -n; compgen -b; compgen -A enabled; compgen -A helptopic'],
    ['complete, bind', 'complete -p; bind -l | head -c 1000; bind -v; bind -p | md5sum'],
    ['history', 'history; echo "$HISTCMD"'],
    ['jobs, dirs, times', 'jobs -l; dirs -v; caller; echo "${PIPESTATUS[@]} $? [$!]"'],
    ['locale', 'locale; printf "%\'d\n" 12345'],
    ['open descriptors', 'for f in /proc/$$/fd/*; do echo ${f##*/}; done; for i in 0 1 2; do p=$(readlink /proc/$$/fd/$i); echo ${p//[0-9]}; done'],
    ['open descriptors of a program', 'ls /proc/self/fd; ls -l /proc/self/fd | wc -l'],
    ['descriptor flags', 'for i in 0 1 2; do grep flags /proc/$$/fdinfo/$i; done'],
    ['status', cat('status'), @pids, @memory],
    ['status of a program', '/bin/cat /proc/self/status', @pids, @memory],
    ['limits', cat('limits')],
    ['limits of a program', '/bin/cat /proc/self/limits'],
    ['cmdline', zcat('cmdline')],
    ['cmdline like an option', "- \n" . zcat('cmdline')],
    ['environ', zcat('environ')],
    ['environ of a program', '/bin/cat /proc/self/environ | tr "\0" "\n"'],
    ['comm, exe, cwd, root', 'cat /proc/$$/comm; readlink /proc/$$/{exe,cwd,root}; echo $BASH'],
    ['cgroup', cat('cgroup')],
    ['mounts', 'cut -d" " -f4- /proc/$$/mountinfo | sed "s/ master:[0-9]*//"',
        [qr{^\S*/ns/\S+|\S+(?= /work )}m, "the volume's directory is the instance's own"],
        [qr{(?<=,[ug]id=)\d+}, 'host uids: the slot of each instance']],
    ['oom, coredump filter, personality', 'for f in oom_score_adj coredump_filter personality loginuid sessionid setgroups uid_map gid_map; do echo $f; cat /proc/$$/$f; done 2>&1',
        [qr/^( +0 +)\d+( +\d+)$/m, 'host uids: the slot of each instance']],
    ['stat: process group, session, terminal', 'read -a s </proc/$$/stat; for i in 0 4; do [ ${s[i]} = $$ ] && echo $i; done; echo ${s[6]} ${s[7]} ${s[8]} ${s[17]} ${s[18]} ${s[19]} ${s[37]} ${s[39]} ${s[40]}',
        [qr/^(0 -1) \d+/m, 'flags: PF_FORKNOEXEC, 0x40']],
    ['scheduling', 'chrt -p $$ | sed "s/pid [0-9]*/pid/"; taskset -p $$ | sed "s/pid [0-9]*/pid/"; nice; ionice -p $$'],
    ['dumpable: own /proc is open', 'ls -ld /proc/$$/fd | cut -c1-10; stat -c "%u %g" /proc/$$/fd /proc/$$/environ; ls /proc/$$/map_files >/dev/null; echo $?'],
    ['other processes', 'ps -eo user,tty,args --no-headers; set -- /proc/[0-9]*; echo $#'],
    ['ps of the shell', 'ps -o args= -p $$; pgrep -c bash; ps -o comm= -p $$; tr "\0" " " </proc/$$/cmdline'],
    ['namespaces', 'for f in /proc/$$/ns/*; do p=$(readlink $f); echo ${p%%:*}; done; cat /proc/sys/kernel/hostname; id; cat /proc/self/attr/current'],
    ['own memory can be read', 'grep -c . /proc/$$/maps >/dev/null; echo $?; grep -c "\[stack\]" /proc/$$/maps; grep -c "\[heap\]" /proc/$$/maps'],
    ['signals of a program', 'python3 -c "import signal; print([(int(s), str(signal.getsignal(s))) for s in signal.Signals if signal.getsignal(s) not in (signal.SIG_DFL, None)], signal.pthread_sigmask(0, []))"'],
);

for my $memory (qw(fresh recycled)) {
    my $pair = Brood::Pair->start($memory);
    for (@dump) {
        my ($name, $cmd, @may_differ) = @$_;
        $pair->same("$memory: $name", $cmd, mask => [map { $_->[0] } @may_differ]);
    }
    $pair->stop;
}
done_testing;
