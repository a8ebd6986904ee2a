# SPDX-License-Identifier: Apache-2.0
# Each kind of box among the policies is asked the attacker's questions, in a zygote of its own, with questions that fit
# it: a layer that only one named policy needs and does not get stops the start, naming the policy; after a reload the
# runs of a new box wait until it is proven, and are refused when it is not. Tenants are told of layers, not of policies.
use lib 't/lib';
use Brood;
use Brood::Killed;
use File::Temp qw(tempdir);
use Mojo::JSON qw(decode_json);
require_layer('root', 'cgroup', 'landlock');

my $build = Brood::build();
my $filtered = Brood::root() . '/t/lib/filtered';
use constant {SYS_landlock_create_ruleset => 444, SYS_prlimit => 302, SYS_landlock_restrict_self => 446};
my $abi = syscall SYS_landlock_create_ruleset, 0, 0, 1;
my $dir = tempdir('brood-policies-XXXXXX', TMPDIR => 1, CLEANUP => 1);
mkdir "$dir/tree" or die;
spew("$dir/open.json", '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mknodat", "statfs"], "action": "SCMP_ACT_ERRNO"}]}');

sub write_policies {
    my ($more, $namespaces) = @_;
    spew("$dir/policy.yaml", "policies:\n  default: {memory_mb: 256}\n$more" . (length($namespaces // '') ? "namespaces:\n$namespaces" : ''));
}

sub events { my ($brood, $event) = @_; return grep { ($_->{event} // '') eq $event } $brood->log_lines }
sub layer_of { my ($doc, $name) = @_; return (grep { $_->{name} eq $name } @{$doc->{layers} // []})[0] // {} }
sub supervisor {
    my @more = @_;
    open my $out, '-|', "$build/brood-supervisor", '--probe', '--policy-file', "$dir/policy.yaml", '--fs-root', "$dir/none", @more or die;
    my @lines = <$out>;
    close $out;
    return ($? >> 8, @lines);
}
sub doctor {
    my ($socket, @as) = @_;
    my $text = do { open my $out, '-|', @as, "$build/brood", 'doctor', '--json', '--socket', $socket or die; local $/; <$out> };
    return decode_json($text);
}

my $kinds = <<'YAML';
  secret-same: {memory_mb: 192}
  secret-files: {nofile: 77}
  secret-tmp: {tmp_mb: 16}
  secret-off: {landlock: {files: off, signals: off, abstract_sockets: off}}
  secret-tcp: {landlock: {tcp_bind: [4444], tcp_connect: none}}
  secret-own: {seccomp: open.json}
  secret-tree: {binds: ["TREE:/opt/tree"]}
YAML
$kinds =~ s/TREE/$dir\/tree/;

subtest 'all of them at start' => sub {
    write_policies($kinds, qq(  - {match: "f-*", policy: secret-files}\n));
    my $brood = Brood->start('policy-file' => "$dir/policy.yaml");
    my ($line) = events($brood, 'layers');
    is($line->{boxes}, 7, 'eight policies, seven kinds: what only limits more is the same box');
    diag("eight policies: $line->{took_ms} ms");
    like($line->{missing}, qr/\blandlock\b/, 'a layer that one policy has off is not claimed for all');
    my $doc = $brood->request(GET => '/v1/capabilities')->{json};
    my $text = $brood->request(GET => '/v1/capabilities')->{body};
    unlike($text, qr/secret/, 'capabilities name no policy');
    is(layer_of($doc, 'landlock')->{state}, 'absent', '... and tell the worst of each layer');
    like(layer_of($doc, 'landlock')->{detail}, qr/off by policy \(1 of 7 kinds of policy\)/, '... with how many have it so');
    is(layer_of($doc, 'userns')->{state}, 'held', '... what all have is held');
    like(layer_of($doc, 'userns')->{detail}, qr/^21 attacks refused, of 7 kinds of policy$/, '... three questions, seven times');
    like(layer_of(doctor($brood->{socket}), 'landlock')->{detail}, qr/policy secret-off/, 'the operator is told which');
    is($brood->sh('f-1' => 'ulimit -n')->{stdout}, "77\n", 'it serves');
    ok(until_true(5, sub { !grep { /^\.probe|^\.new/ } $brood->entries }), 'no volume of a probe is left');
    is(scalar(grep { /\.probe/ } map { $_->{ns} // '' } $brood->log_lines), 0, 'nor a word of its runs');
    $brood->stop;
    is_deeply([$brood->cgroup_dirs], [], 'no cgroup is left');
    is_deeply([grep { !/^(?:f-1|\.lock)$/ } $brood->entries], [], 'no volume is left');
    my ($status, @lines) = supervisor();
    is($status, 0, '--probe asks them all, too');
    like(join('', @lines), qr/^landlock\tabsent\toptional\t[^\t]*\toff by policy \(policy secret-off\)\t/m, '... and names the policy');
};

subtest 'what another may not see' => sub {
    my $brood = Brood->start('policy-file' => "$dir/policy.yaml", 'socket-users' => '54321');
    chmod 0755, $brood->{dir};
    my $doc = doctor($brood->{socket}, qw(setpriv --reuid 54321 --regid 54321 --clear-groups));
    is($doc->{layers_from}, 'service', 'a user of the socket is told of the layers');
    unlike(Mojo::JSON::encode_json($doc), qr/secret/, '... and of no policy');
    $brood->stop;
};

# Broken for one policy only: the limit of file size only seems to be set (a filter around the whole service), and what
# is inherited is low enough for all others.
my @wrap = ('prlimit', '--fsize=' . (1 << 30), $filtered, SYS_prlimit . ',1,eq,1,2,not,0=0', '--');

subtest 'a layer that only one policy lacks' => sub {
    write_policies("  tight: {nofile: 77}\n  tighter: {fsize_mb: 3}\n");
    my $brood = Brood->start('policy-file' => "$dir/policy.yaml", wrap => \@wrap, ready => 0);
    ok($brood->wait_exit(20) && $brood->{status}, 'the start ends with an error') or diag($brood->log_tail);
    my ($line) = events($brood, 'layer_broken');
    is($line->{layer}, 'rlimits', 'the log names the layer');
    is($line->{policy}, 'tighter', 'the policy, and not those that hold');
    like("$line->{question} $line->{detail}", qr/limit higher than set.*fsize/, 'what succeeded');
    like($line->{needs}, qr/\S/, 'and the remedy');
    ok(!events($brood, 'serving'), 'it never served');
    is_deeply([grep { $_ ne '.lock' } $brood->entries], [], 'no volume is left');
    is_deeply([$brood->cgroup_dirs], [], 'no cgroup is left');
};

subtest 'a reload' => sub {
    my $namespaces = qq(  - {match: "g-*", policy: good}\n  - {match: "b-*", policy: bad}\n);
    write_policies("  good: {}\n  bad: {}\n", $namespaces);
    my $brood = Brood->start('policy-file' => "$dir/policy.yaml", wrap => \@wrap);
    $brood->sh($_ => 'echo kept >file') for 'b-1', 'g-1', 'other';
    my $zygote = $brood->zygote_of('other');

    write_policies("  good: {nofile: 77}\n  bad: {fsize_mb: 3}\n", $namespaces);
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies".*"generation":2/), 'brings two new boxes');
    my @conns = map { $brood->post($_ => 'cat file; ulimit -n') } 'g-1', 'b-1', 'other';
    my ($good, $bad, $other) = map { $brood->result($_) } @conns;
    is($good->{stdout}, "kept\n77\n", 'one that holds is used');
    is($bad->{http}, 503, 'one that does not is not');
    is($bad->{error}{code}, 'activation_failed', "it is told so: $bad->{error}{code}");
    unlike($bad->{error}{message}, qr/bad|rlimit/, '... without words of the operator');
    is($other->{stdout}, "kept\n1024\n", 'all others go on');
    is($brood->zygote_of('other'), $zygote, '... in the same zygote');
    my ($line) = events($brood, 'layer_broken');
    is("$line->{layer} $line->{policy}", 'rlimits bad', 'the log says which layer of which policy');
    is((events($brood, 'policy_refused'))[0]{policy}, 'bad', '... and that it is not served');
    is((events($brood, 'policy_proven'))[0]{policy}, 'good', 'and which is proven');
    is($brood->sh('b-2' => 'true')->{http}, 503, 'a later run is refused at once');
    my $doc = $brood->request(GET => '/v1/capabilities')->{json};
    is(layer_of($doc, 'rlimits')->{state}, 'broken', 'capabilities tell');
    is(layer_of(doctor($brood->{socket}), 'rlimits')->{state}, 'broken', 'so does doctor');
    isnt($? >> 8, 0, '... and exits with an error');

    write_policies("  good: {nofile: 78}\n  bad: {}\n", $namespaces);
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"policies".*"generation":3/), 'another reload');
    is($brood->sh('b-1' => 'cat file')->{stdout}, "kept\n", '... and it is served, with its files');
    is($brood->sh('g-1' => 'ulimit -n')->{stdout}, "78\n", 'so is the other, anew');
    is(layer_of($brood->request(GET => '/v1/capabilities')->{json}, 'rlimits')->{state}, 'held', 'all holds again');

    write_policies("  good: {nofile: 79}\n", qq(  - {match: "g-*", policy: good}\n));
    $brood->signal('HUP') for 1 .. 20;
    ok($brood->wait_log(qr/"event":"policies".*"generation":4/), 'reloads upon reloads');
    is($brood->sh('g-2' => 'ulimit -n')->{stdout}, "79\n", 'end well');
    ok(until_true(5, sub { !grep { /^\.(?!lock|blank-)/ } $brood->entries }), 'no volume of a probe is left');
    ok(until_true(5, sub { qx($build/brood stats --socket $brood->{socket}) =~ /^active +(\d+)$/m && $1 <= 5 }), 'nor a zygote');
    $brood->stop;
    is_deeply([$brood->cgroup_dirs], [], 'no cgroup is left');
    is_deeply([grep { /^\./ && $_ ne '.lock' } $brood->entries], [], 'nothing but volumes is left');
};

# The probe's zygote is the only one that such a reload starts: held, then let go or killed.
for my $end (qw(CONT KILL)) {
    subtest "while it is asked: $end" => sub {
        my $namespaces = qq(  - {match: "n-*", policy: new}\n);
        write_policies("  new: {}\n", $namespaces);
        my $brood = start_one('policy-file' => "$dir/policy.yaml");
        my ($zygote, $nofile) = (undef, 90);
        for my $try (1 .. 20) {
            $brood->sh(other => 'true');
            ok(until_true(5, sub { (stats($brood)->{spares} // 0) == 1 && !stats($brood)->{starting} }), 'the pool is full') if $try == 1;
            write_policies("  new: {nofile: " . ++$nofile . "}\n", $namespaces);
            my $proven = () = events($brood, 'policy_proven');
            my %old = map { $_ => 1 } $brood->pids('zygote');
            $brood->signal('HUP');
            last if $zygote = stop_next_child($brood, sub { my ($pid) = $_[0] =~ /^Pid:\s+(\d+)/m; is_zygote($_[0]) && !$old{$pid} }, sub { $proven < (() = events($brood, 'policy_proven')) });
        }
        ok($zygote, 'the zygote of the probe was caught') or return;
        my $waits = $brood->post('n-1' => 'ulimit -n');
        ok(until_true(5, sub { (stats($brood)->{queued} // 0) >= 1 }), 'a run of the new policy waits');
        is($brood->sh(other => 'echo hi')->{stdout}, "hi\n", '... others do not');
        ok(!$waits->readable, '... still');
        kill $end => $zygote;
        my $r = $brood->result($waits);
        if ($end eq 'KILL') {
            is("$r->{http} $r->{error}{code}", '503 activation_failed', 'what could not be asked is no proof: it is refused');
            ok($brood->wait_log(qr/"event":"policy_refused","policy":"new"/), '... and the log says so'); # the run may hear of the dead zygote first
            ok($brood->wait_log(qr/"event":"policy_proven"(?!.*"event":"policy_refused")/s, 20), 'later it is asked again');
            $r = $brood->sh('n-1' => 'ulimit -n');
        }
        is($r->{stdout}, "$nofile\n", 'once proven, it is served');
        $brood->stop;
        is_deeply([grep { /^\./ && $_ ne '.lock' } $brood->entries], [], 'nothing but volumes is left');
    };
}

done_testing;
