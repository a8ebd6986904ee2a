# SPDX-License-Identifier: Apache-2.0
# A session's script can find the number of its call in the page that its bash shares with pid 1, and report the end of that call
# itself: its exit code is its own affair, what it used is not. Nor can it make the sums of a day too large to be added to.
use lib 't/lib';
use Brood;

my $brood = Brood->start('languages-dir' => '');
# %s: fields behind run_id; pack's words for them.
my $forge = <<'SH';
exec 9</proc/self/mem
forge() {
    local from=$(sed -n 's/^\([0-9a-f]*\)-[0-9a-f]* rw-s .*zero.*/\1/p' /proc/$$/maps | head -n 1)
    perl -e 'open my $m, "<&=9"; sysseek $m, hex shift, 0; sysread $m, my $id, 8; syswrite STDOUT, $id . pack "QlLlL", @ARGV' "$from" "$@" >&255
}
SH
sub usage { return $brood->request(GET => '/v1/usage')->{json}{keys}[0] // {runs => 0, wall_seconds => 0, cpu_seconds => 0} }
my $session = 0;
# The answer of a call that works for a while and then reports these: cpu_ns, status, step, errno, interrupted.
sub forged {
    my ($work, @fields) = @_;
    $session++;
    return $brood->sh(alice => "$forge\n$work\nforge @fields; sleep 5", session => "s$session", timeout => 4);
}
my $busy = 'end=$((${EPOCHREALTIME/./} + 600000)); while ((${EPOCHREALTIME/./} < end)); do :; done';

my $r = forged(':', '18446744073709551615', 3, 0, 0, 0);
is_deeply([$r->{http}, $r->{exit_code}], [200, 3], 'the forged report ends the call') or diag(explain($r));
cmp_ok($r->{cpu_ms}, '<', 60_000, 'who reports a processor time without end has used what is possible');
$r = forged($busy, 0, 0, 0, 0, 0);
cmp_ok($r->{cpu_ms}, '>', 100, 'who reports none has used what its cgroup says');
cmp_ok($r->{cpu_ms}, '<', 4000, 'and no more');
cmp_ok($r->{wall_ms}, '>=', 600, 'for so long');
my $before;
ok(until_true(10, sub { ($before = usage())->{runs} == 2 }), 'both count');
cmp_ok($before->{cpu_seconds}, '<', 120, 'the sum is sane');
$r = forged($busy, 0, 0, 4, 2, 0);
is_deeply([$r->{http}, $r->{error}{message}], [400, 'cwd: cwd does not exist'], 'who reports that it could not begin is told so') or diag(explain($r));
my $after;
ok(until_true(10, sub { ($after = usage())->{runs} == 3 }), 'and counts nevertheless');
cmp_ok($after->{wall_seconds} - $before->{wall_seconds}, '>=', 0.6, 'with its time');
cmp_ok($after->{cpu_seconds} - $before->{cpu_seconds}, '>', 0.1, 'and its work');
is($brood->sh(alice => 'cd /tmp; pwd', session => 'honest')->{stdout}, "/tmp\n", 'another session is as ever');
is($brood->request(POST => '/execute', body => {namespace_id => 'alice', session => 'honest', cmd => ':', cwd => '/absent'})->{status}, 400, 'an honest 400');
$brood->stop;
done_testing;
