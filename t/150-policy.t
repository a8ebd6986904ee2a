# SPDX-License-Identifier: Apache-2.0
# Policies from outside: which namespace gets which, what a request may tighten or ask for, what a reload changes
# at once, what comes with a new zygote, and that a bad file changes nothing.
use lib 't/lib';
use Brood;
use constant SYS_landlock_create_ruleset => 444;
use File::Basename qw(dirname);
use File::Temp qw(tempdir);

require_layer('root', 'cgroup', 'landlock');
my $dir = tempdir(CLEANUP => 1);
chmod 0755, $dir;
mkdir "$dir/models" or die;
spew("$dir/models/one", "weights\n");
my $policy = "$dir/policy.yaml";

my $text = <<"YAML";
policies:
  default: {memory_mb: 256, pids: 64}
  tight:
    memory_mb: 64
    pids: 16
    tmp_mb: 8
    timeout_max_ms: 3000
    timeout_default_ms: 1000
    cpu_max_ms: 2000
    output_max_kb: 2
    env: {WHO: tight, HOME_OF: "a b"}
  slim: {pids: 20}
  models: {binds: ["$dir/models:/opt/models"], nofile: 77}
  nonet: {landlock: {tcp_bind: [4444], tcp_connect: [5555]}}
  own: {seccomp: own.json}
  noscope: {landlock: {files: off, abstract_sockets: off, signals: off}}
namespaces:
  - {match: "t-*", policy: tight, may_ask: [slim]}
  - {match: "m-*", policy: models}
  - {match: "n-*", policy: nonet}
  - {match: "o-*", policy: noscope}
  - {match: "p-*", policy: own}
  - {match: "ci-*", policy: default, may_ask: [tight, slim, models]}
YAML
spew($policy, $text);
spew("$dir/own.json", '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}');
my $brood = Brood->start('policy-file' => $policy);
my $cli = Brood::build() . "/brood";
my $too_many = q{exec perl -e 'for $n (1 .. 30) { $p = fork; exit 1 unless defined $p; if (!$p) { sleep 5; exit } }'};
my $bomb = q{exec perl -e '$n = 512 << 20; $x = "x" x $n'}; # at once: it must not meet the limit of cpu_max_ms first

sub policy { my $out = qx($cli policy @_ --socket $brood->{socket} 2>&1); return ($out, $? >> 8) }

# A command that goes on when the test says so: who waits in it has left the file MARK.
sub until_let_go { return "touch $_[0]; until [ -e go-$_[0] ]; do sleep 0.02; done; " }
sub let_go { spew(dirname($brood->wait_file($_[0])) . "/go-$_[0]", '') }

sub refused {
    my ($field, $like, %body) = @_;
    my ($status, $json) = $brood->execute({cmd => 'touch ran', %body});
    is($status, 400, "400 for $field");
    like($json->{error}{message}, $like, $json->{error}{message});
}

subtest 'each namespace has the policy of its first match' => sub {
    is($brood->sh(plain => 'ulimit -n; ulimit -u; echo ${WHO-none}')->{stdout}, "1024\n257\nnone\n", 'default');
    is($brood->sh('t-1' => 'echo $WHO,$HOME_OF')->{stdout}, "tight,a b\n", 'variables of a policy');
    is($brood->sh('t-1' => 'echo $WHO', env => {WHO => 'me'})->{stdout}, "me\n", "a request's own are stronger");
    my $r = $brood->sh('t-1' => 'perl -e "print q(x) x 5000"');
    is(length $r->{stdout}, 2048, 'output_max_kb');
    ok($r->{stdout_truncated} && $r->{stdout_bytes} == 5000 && !$r->{stderr_truncated}, '... and the cut is told');
    $r = $brood->sh('t-1' => 'sleep 20');
    ok($r->{reason} eq 'timeout' && $r->{wall_ms} < 2500, "its default deadline: $r->{reason} after $r->{wall_ms} ms");
    is($brood->sh('t-1' => 'df -k /tmp | tail -1 | (read a b c; echo $b)', timeout => 3)->{stdout}, "8192\n", 'tmp_mb');
    is($brood->sh('t-1' => $bomb, timeout => 3)->{reason}, 'oom', 'memory_mb');
    is($brood->sh('t-1' => $too_many)->{reason}, 'pids', 'pids');
    is($brood->sh(plain => $too_many)->{exit_code}, 0, '... which default has more of');
    is($brood->sh('t-1' => 'while :; do :; done', limits => {timeout_ms => 3000, cpu_ms => 1000})->{reason}, 'cpu_limit', 'cpu_ms below cpu_max_ms');
};

subtest 'a request only tightens' => sub {
    is($brood->sh(plain => $bomb, limits => {memory_mb => 32})->{reason}, 'oom', 'memory_mb of a run');
    isnt($brood->sh(plain => q{perl -e 'my $x = "x" x (100 << 20); print length $x'}, limits => {memory_mb => 48})->{stdout}, 100 << 20, '100 MiB are too many for 48');
    is($brood->sh(plain => q{perl -e 'my $x = "x" x (50 << 20); print length $x'})->{stdout}, 50 << 20, 'the next run has its policy again');
    is($brood->sh(plain => $too_many, limits => {pids => 8})->{reason}, 'pids', 'pids of a run');
    is($brood->sh(plain => $too_many)->{exit_code}, 0, '... and not of the next');
    refused('limits.memory_mb', qr/limits\.memory_mb: the policy tight allows at most 64/, namespace_id => 't-1', limits => {memory_mb => 65});
    refused('limits.pids', qr/limits\.pids: the policy default allows at most 64/, namespace_id => 'plain', limits => {pids => 65});
    refused('limits.cpu_ms', qr/limits\.cpu_ms: the policy tight allows at most 2000/, namespace_id => 't-1', limits => {cpu_ms => 2001});
    refused('timeout', qr/timeout: the policy tight allows at most 3000 ms/, namespace_id => 't-1', timeout => 3.5);
    refused('timeout', qr/at most/, namespace_id => 'plain', timeout => 301);
    is($brood->sh($_ => 'ls ran')->{exit_code}, 2, "nothing ran in $_") for 't-1', 'plain';
    $brood->sh(full => 'head -c 40000000 /dev/zero >/tmp/big');
    refused('limits.memory_mb', qr/limits\.memory_mb: less than what the namespace holds/, namespace_id => 'full', limits => {memory_mb => 16});
    is($brood->sh(full => 'wc -c </tmp/big')->{stdout}, "40000000\n", '... and nothing of it is lost');
};

subtest 'asking for another policy' => sub {
    refused('policy', qr/policy: this namespace may not ask/, namespace_id => 'plain', policy => $_) for 'tight', 'nonsense';
    refused('policy', qr/may not ask/, namespace_id => 't-2', policy => 'default');
    refused('policy', qr/policy must be/, namespace_id => 'ci-1', policy => 5);
    ok(!(grep { /^t-2$/ } $brood->volumes), 'a refused request makes no namespace');
    $brood->sh('ci-1' => 'echo kept >file; echo lost >/tmp/file');
    my $r = $brood->sh('ci-1' => 'cat file /tmp/file; echo $WHO', policy => 'tight');
    is($r->{stdout}, "kept\ntight\n", 'another zygote over the same volume') or diag explain $r;
    isnt($r->{start}, 'warm', "... which was not warm: $r->{start}");
    is($brood->sh('ci-1' => 'cat file; cat /opt/models/one; ulimit -n', policy => 'models')->{stdout}, "kept\nweights\n77\n", 'and another');
    is($brood->sh('ci-1' => 'ls /opt; ulimit -n')->{stdout}, "models\n1024\n", 'back to its own (the place stays, empty)');
    is($brood->sh('ci-1' => 'ls -A /opt/models /.binds')->{stdout}, "/.binds:\n\n/opt/models:\n", "nobody sees the others' trees");
    $brood->sh('ci-2' => ':');
    is($brood->sh('ci-2' => $too_many, policy => 'slim')->{reason}, 'pids', 'a policy that only limits more');
    is($brood->sh('ci-2' => ':', policy => 'slim')->{start}, 'warm', '... needs no other zygote');
    my @conns = map { $brood->post('ci-3' => "echo $_ >>order; echo \${WHO-none}", $_ % 2 ? (policy => 'tight') : ()) } 1 .. 8;
    my @who = map { $brood->result($_)->{stdout} } @conns;
    is("@who", join(' ', map { $_ % 2 ? "tight\n" : "none\n" } 1 .. 8), 'each run in a queue has its own');
    is($brood->sh('ci-3' => 'echo $(<order)')->{stdout}, "1 2 3 4 5 6 7 8\n", '... in the order of acceptance');
};

subtest 'binds are read-only and lead nowhere' => sub {
    is($brood->sh('m-1' => 'cat /opt/models/one')->{stdout}, "weights\n", 'readable');
    for my $try ('echo x >/opt/models/one', 'touch /opt/models/two', 'rm /opt/models/one', 'mount -o remount,rw /opt/models',
        "ls /opt/models/../$dir", 'chmod 777 /opt/models/one') {
        isnt($brood->sh('m-1' => $try)->{exit_code}, 0, $try);
    }
    is(slurp("$dir/models/one"), "weights\n", 'unchanged');
};

my $server = q{perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => $ARGV[0]) or die "bind: $!\n"; print "bound\n"; }
    . q{exit if @ARGV < 2; IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die "connect: $!\n"; print "connected\n"'};
subtest 'landlock, right by right' => sub {
    is($brood->sh('n-1' => "$server 4444")->{stdout}, "bound\n", 'bind to a listed port');
    SKIP: {
        my $abi = syscall SYS_landlock_create_ruleset, 0, 0, 1;
        skip "landlock has ABI $abi here, TCP ports need 4", 2 if $abi < 4;
        like($brood->sh('n-1' => "$server 4445")->{stderr}, qr/bind: Permission denied/, '... to another');
        like($brood->sh('n-1' => "$server 4444 too")->{stderr}, qr/connect: Permission denied/, 'connect to one that is not listed');
    }
    is($brood->sh(plain => "$server 4445 too")->{stdout}, "bound\nconnected\n", 'any port where the policy says nothing');
    like($brood->sh('n-1' => 'exec 3<>/dev/tcp/127.0.0.1/5555')->{stderr}, qr/refused/, 'a listed one is reached: nobody listens');
    is($brood->sh('o-1' => 'cat /etc/passwd >/dev/null && echo reads')->{stdout}, "reads\n", 'all rights off: it runs');
    isnt($brood->sh('o-1' => 'echo x >/etc/passwd')->{exit_code}, 0, '... and the mounts still hold');
};

subtest "a seccomp profile of one's own" => sub {
    my $r = $brood->sh('p-1' => 'mkdir x; echo $?; mkdir -p y/z; echo done');
    like($r->{stderr}, qr/Operation not permitted/, 'what it refuses is refused');
    is($r->{stdout}, "1\ndone\n", 'the rest runs');
    is_deeply([sort @{$r->{denied}}], ['mkdir'], 'and is told');
    is($brood->sh(plain => 'mkdir x')->{exit_code}, 0, 'not for others');
};

subtest 'brood policy' => sub {
    my ($out, $status) = policy('list');
    is($out, "default\ntight\nslim\nmodels\nnonet\nown\nnoscope\n", 'list');
    ($out, $status) = policy('show', 'tight');
    like($out, qr/^policy tight\nfor: t-\* ci-\* \(asked for\)\nmemory_mb: 64 /, 'show');
    like($out, qr/^seccomp: profile default.*^  32-bit entry: ENOSYS/ms, 'with what the filter answers');
    like((policy('show'))[0], qr/^policy default\n/, 'default when none is named');
    ($out, $status) = policy('show', 'none');
    ok($status == 1 && $out =~ /no such policy/, "one that is not there: $out");
    is((policy('shew'))[1], 2, 'usage');
};

subtest 'reload' => sub {
    $brood->sh($_ => ':') for 'plain', 'r-1', 't-1', 'ci-9';
    my $zygote = $brood->zygote_of('plain');
    $text =~ s/default: \{memory_mb: 256, pids: 64\}/default: {memory_mb: 256, pids: 24}/;
    spew($policy, $text);
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies".*"generation":2/), 'a new limit is taken');
    is($brood->sh(plain => $too_many)->{reason}, 'pids', '... by the next run');
    is($brood->zygote_of('plain'), $zygote, '... of the same zygote');
    my $busy = $brood->post(plain => until_let_go('begun') . 'ulimit -n; echo busy', timeout => 20);
    $brood->wait_file('begun');
    my $queued = $brood->post(plain => 'ulimit -n; echo queued');
    $text =~ s/pids: 24\}/pids: 24, nofile: 99}/;
    $text =~ s/  slim: .*\n//;
    $text =~ s/, may_ask: \[slim\]//;
    $text =~ s/tight, slim, models/tight, models/;
    spew($policy, $text);
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies".*"generation":3/), 'what needs another zygote');
    let_go('begun');
    is($brood->result($busy)->{stdout}, "1024\nbusy\n", 'a run under way keeps what it has');
    is($brood->result($queued)->{stdout}, "99\nqueued\n", 'the queued one behind it has the new');
    isnt($brood->zygote_of('plain'), $zygote, '... in another zygote');
    is($brood->sh('new-1' => 'ulimit -n')->{stdout}, "99\n", 'so have new namespaces');
    refused('policy', qr/may not ask/, namespace_id => 'ci-9', policy => 'slim');
    spew($policy, "policies:\n  default: {memory_mb: 256}\n  broken: {memory: 5}\n");
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies_kept".*policy\.yaml:3: policies\.broken\.memory: unknown/), 'a bad file is named');
    is($brood->sh('new-2' => 'ulimit -n')->{stdout}, "99\n", '... and changes nothing');
    unlink $policy;
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies_kept".*policy file/), 'so is one that is gone');
    spew($policy, "policies:\n  default: {memory_mb: 256}\n");
    my $last = $brood->post('o-1' => until_let_go('under_way') . 'echo ended', timeout => 20);
    $brood->wait_file('under_way');
    my $busy2 = $brood->post('ci-8' => until_let_go('before_it') . ':', timeout => 20);
    $brood->wait_file('before_it');
    my $gone = $brood->post('ci-8' => 'echo never', policy => 'models');
    ok(until_true(5, sub { qx($cli stats --socket $brood->{socket}) =~ /^queued +1$/m }), 'one waits behind another');
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies","count":1,/), 'all policies but one are gone');
    let_go($_) for 'under_way', 'before_it';
    is($brood->result($last)->{stdout}, "ended\n", 'a run under one that is gone ends as it began');
    is($brood->result($gone)->{http}, 400, '... one that waited for such a one is told');
    is($brood->result($busy2)->{exit_code}, 0, '... and the one before it ends');
    refused('policy', qr/may not ask/, namespace_id => 'ci-9', policy => 'models');
    spew($policy, $text);
    $brood->signal('HUP') for 1 .. 30;
    ok($brood->wait_log(qr/"event":"policies".*"generation":5/), '30 signals at once');
    is($brood->sh($_ => 'echo ok')->{stdout}, "ok\n", "$_ works") for 'plain', 't-1', 'm-1', 'ci-1', 'new-3';
    is(scalar(grep { ($_->{event} // '') eq 'primordial_died' } $brood->log_lines), 0, 'no primordial was lost, they were replaced');
};

$brood->stop;
done_testing;
