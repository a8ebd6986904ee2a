# SPDX-License-Identifier: Apache-2.0
# The attacker changes how programs are run: no address randomisation, executable stacks, read implies exec, page
# zero - for itself that is its own affair; nothing of it may reach the next run, pid 1 or a set-uid program.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $got = attack($brood, mallory => <<'PERL');
call(persona => 135, 0x0040000 | 0x0400000 | 0x0100000); # ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO
call(page_zero => 9, 0, 4096, 3, 0x32, -1, 0);
call(mlock => 149, 0x400000, 1 << 20);
call(nice => 141, 0, 0, -20);
call(realtime => 144, 0, 1, pack('i', 50));
call(ioprio => 251, 1, 0, 1 << 13 | 0);
call(oomless => 157, 6, 0, 0, 0, 0);
for my $limit (0 .. 15) { call("raise $limit" => 302, 0, $limit, pack('QQ', ~0, ~0), 0) }
PERL
refused($got, $_, qr/^(?:EPERM|EACCES)$/) for qw(page_zero nice realtime ioprio);
# What had no limit has none; what has one keeps it.
my @limited = (1 => 3, 4, 6, 7, 8, 12, 13, 14);
refused($got, "raise $_", qr/^EPERM$/) for 1, 3, 4, 6, 7, 8, 12, 13, 14;
my @layouts = map { $brood->sh(mallory => 'grep -m 1 stack /proc/self/maps')->{stdout} } 1 .. 3;
isnt($layouts[0], $layouts[1], 'in the next run addresses are random again') or isnt($layouts[1], $layouts[2], 'or in the one after it');
is($brood->sh(mallory => 'cat /proc/self/personality 2>/dev/null || echo 00000000')->{stdout}, "00000000\n", 'and its personality is the plain one');
is($brood->sh(mallory => 'ulimit -Hn; ulimit -Hu; ulimit -c; nice')->{stdout}, "1024\n257\n0\n0\n", 'limits are those of the policy');
is($brood->sh(mallory => 'umask 0; ulimit -n 20; ulimit -f 1; renice 19 $$ >/dev/null; set -f; shopt -s extglob; alias x=y; cd /tmp; trap "echo trapped" EXIT TERM; readonly HOME; x() { :; }; exit 0')->{exit_code}, 0, 'a run changes what it may of itself');
is($brood->sh(mallory => 'umask; ulimit -n; ulimit -f; nice; echo $-; alias; pwd; trap; HOME=/x; echo $HOME; declare -F')->{stdout}, "0022\n1024\n1048576\n0\nhBc\n/work\n/x\n", 'the next one finds nothing of it');

$brood->stop;
done_testing;
