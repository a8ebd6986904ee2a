# SPDX-License-Identifier: Apache-2.0
# Fail closed, probe, explain: at its start the service asks an attacker's questions from the place of a run, and
# does not serve when one succeeds. Layers are really broken here, by a seccomp filter around the whole service that
# refuses a system call, or lets it "succeed" without being done (t/lib/filtered): the second kind can only be
# found by asking.
use lib 't/lib';
use Brood;
use File::Temp qw(tempdir);
use Mojo::JSON qw(decode_json);
require_layer('root', 'cgroup', 'landlock');

my $build = Brood::build();
my $filtered = Brood::root() . '/t/lib/filtered';
my %nr = (landlock_create_ruleset => 444, landlock_restrict_self => 446, unshare => 272, seccomp => 317, prlimit => 302, prctl => 157,
    close_range => 436, mount_setattr => 442, clone => 56);

# Standard output, status and standard error of a command.
sub output_of {
    my @argv = @_;
    my $err = File::Temp->new;
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        open STDERR, '>', $err->filename;
        exec @argv or POSIX::_exit(99);
    }
    my $text = do { local $/; readline $out } // '';
    close $out;
    return ($text, $? >> 8, slurp($err->filename));
}

# `brood doctor --json` where no service is: (document, exit status).
sub doctor {
    my ($rules, @more) = @_;
    my ($text, $status) = output_of((@$rules ? ($filtered, @$rules, '--') : ()), "$build/brood", 'doctor', '--json', '--socket', '/nowhere/brood.sock', @more);
    return (eval { decode_json($text) } // {}, $status);
}

sub layer_of { my ($doc, $name) = @_; return (grep { $_->{name} eq $name } @{$doc->{layers} // []})[0] // {} }

my @all = qw(userns mntns pidns netns ipcns utsns cgroupns cgroup-memory cgroup-pids cgroup-cpu landlock landlock-tcp landlock-scope
    seccomp no-new-privs capabilities rlimits proc image tmp devices volume descriptors);
my @degrades = qw(landlock-tcp landlock-scope);

sub is_whole {
    my ($what, $layers) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply([map { $_->{name} } @{$layers // []}], \@all, "$what: every layer is named");
    my @not = grep { my $l = $_; $l->{state} ne 'held' && !($l->{state} eq 'absent' && grep { $l->{name} eq $_ } @degrades) } @{$layers // []};
    is_deeply(\@not, [], "$what: all that must be are held");
}

for my $zygote (qw(bash exec)) {
    subtest "a whole machine, zygote $zygote" => sub {
        my $brood = Brood->start(zygote => $zygote, 'runs-queue-max' => 17);
        my ($line) = grep { ($_->{event} // '') eq 'layers' } $brood->log_lines;
        cmp_ok($line->{held} // 0, '>=', @all - @degrades, 'the log counts the layers');
        like($line->{names}, qr/\b$_\b/, "and names $_") for @all[grep { my $i = $_; !grep { $all[$i] eq $_ } @degrades } 0 .. $#all];
        ok(until_true(5, sub { !grep { /^\.(?!lock|blank-)/ } $brood->entries }), 'the probe has left no volume');
        is($brood->sh(alice => 'ls -A; hostname')->{stdout}, "alice\n", 'the first tenant finds nothing of it');

        my $res = $brood->request(GET => '/v1/capabilities');
        is($res->{status}, 200, 'GET /v1/capabilities');
        my $doc = $res->{json};
        is($doc->{zygote}, $zygote, 'the zygote');
        like($doc->{version}, qr/^brood \d/, 'the version');
        is($doc->{kernel}, (POSIX::uname())[2], 'the kernel');
        cmp_ok($doc->{landlock_abi}, '>=', 1, 'the ABI of landlock');
        like($doc->{cgroup_version}, qr/^[12]$/, 'the version of cgroups');
        is($doc->{limits}{queue}, 17, 'a limit as it was set');
        cmp_ok($doc->{limits}{$_} // 0, '>', 0, "limit $_") for qw(body_bytes cmd_bytes env_bytes output_bytes timeout_ms timeout_default_ms queue_wait_ms connections code_bytes);
        is_deeply([@{$doc->{limits}}{qw(v1_runs_timeout_ms v1_runs_timeout_default_ms)}], [10000, 5000], 'the deadlines of /v1/runs, which are others');
        is_deeply($doc->{networks}, ['none'], 'the network modes');
        for my $feature (qw(stdin languages runs files jobs streams terminals)) {
            ok((grep { $_ eq $feature } @{$doc->{features}}), "the feature $feature");
        }
        is_whole('capabilities', $doc->{layers});
        is($brood->request(POST => '/v1/capabilities', body => '{}')->{status}, 405, 'POST is refused');

        my ($text, $status) = output_of("$build/brood", 'doctor', '--json', '--socket', $brood->{socket});
        my $told = decode_json($text);
        is($status, 0, 'doctor is content');
        is($told->{layers_from}, 'service', 'it lets the service tell');
        ok($told->{ok}, 'and says so');
        is_whole('doctor', $told->{layers});
        ok(!(grep { !defined $_->{remedy} || !defined $_->{detail} || !defined $_->{verdict} || !defined $_->{what} } @{$told->{checks}}), 'each check has its four fields');

        # Beside the running service, over the same files.
        ($text, $status) = output_of("$build/brood-supervisor", '--probe', '--fs-root', $brood->{fs_root}, '--zygote', $zygote);
        is($status, 0, '--probe beside it') or diag($text);
        is(scalar(grep { /^[\w-]+\theld\t/ } split /\n/, $text), $line->{held}, 'finds the same');
        is($brood->sh(alice => 'echo still')->{stdout}, "still\n", 'and disturbs nobody');
        is($brood->sh('.probe' => 'true')->{http}, 400, 'a client cannot name the namespace of the probe');
        $brood->stop;
        is_deeply([$brood->cgroup_dirs], [], 'no cgroup is left');
        is_deeply([grep { !/^(?:alice|\.lock)$/ } $brood->entries], [], 'no volume is left');
    };
}

subtest 'doctor without a service' => sub {
    my ($doc, $status) = doctor([], '--fs-root', '/tmp/brood-not-there');
    is($status, 0, 'root has the layers asked');
    is($doc->{layers_from}, 'probe', 'now');
    is_whole('doctor', $doc->{layers});
    ok(!-e '/tmp/brood-not-there', 'nothing was made');
    is_deeply([glob '/tmp/brood-probe-*'], [], 'nothing is left');
    is_deeply([glob '/sys/fs/cgroup/*/brood-probe-*'], [], 'nor a cgroup');
    my ($text) = output_of(qw(setpriv --reuid 54321 --regid 54321 --clear-groups), "$build/brood", 'doctor', '--json', '--socket', '/nowhere/brood.sock');
    $doc = decode_json($text);
    is($doc->{layers_from}, 'none', 'somebody else cannot have them asked');
    is_deeply($doc->{layers}, [], 'and is told nothing of them');
    ok((grep { $_->{what} eq 'layers' && $_->{remedy} =~ /root/ } @{$doc->{checks}}), 'but what to do');
    ok((grep { $_->{what} eq 'landlock' } @{$doc->{checks}}), 'and what the kernel has');
};

# Starts the service with something broken; it must say what, and not serve for a moment.
sub broken {
    my ($what, $rule, $layer, $question) = @_;
    subtest $what => sub {
        my $brood = Brood->start(ready => 0, wrap => [$filtered, $rule, '--']);
        ok($brood->wait_exit(20), 'the start ends');
        isnt($brood->{status} >> 8, 0, 'with an error');
        my ($line) = grep { ($_->{event} // '') eq 'layer_broken' && $_->{layer} eq $layer } $brood->log_lines;
        ok($line, "the log names $layer") or diag($brood->log_tail);
        like("$line->{question} $line->{detail}", $question, 'and what succeeded');
        like($line->{needs}, qr/\S/, 'and the remedy');
        ok(!(grep { ($_->{event} // '') =~ /^(?:serving|layers)$/ } $brood->log_lines), 'it never served');
        is_deeply([grep { $_ ne '.lock' } $brood->entries], [], 'no volume is left');
        is_deeply([$brood->cgroup_dirs], [], 'no cgroup is left');
        my ($doc, $status) = doctor([$rule]);
        is($status, 1, 'doctor exits 1');
        my $told = layer_of($doc, $layer);
        is($told->{state}, 'broken', "its JSON says that $layer is broken");
        like("$told->{question} $told->{detail}", $question, 'and what succeeded');
        like($told->{remedy}, qr/\S/, 'and the remedy');
    };
}

# Refused by the kernel, as far as the service can see.
broken('no cgroupns', "$nr{unshare},0,has,0x2000000=1", 'cgroupns', qr/set up.*not permitted/);
# "Done", the kernel seems to say: believing it would be fatal.
# Only as zygotes do it (a filter with a listener, the limit of files): engine and frontend ask, too, and would end the
# start before the probe does.
broken('seccomp only seems to work', "$nr{seccomp},0,eq,1,1,has,8=0", 'seccomp', qr/call unshare.*it works/);
broken('setrlimit only seems to work', "$nr{prlimit},1,eq,1,2,not,0=0", 'rlimits', qr/limit higher than set.*fsize/);
broken('a cgroupns that only seems to be made', "$nr{unshare},0,has,0x2000000=0", 'cgroupns', qr/host's/);
broken('capabilities that only seem to be dropped', "$nr{prctl},0,eq,24,1,eq,21=0", 'capabilities', qr/bounding set/);
broken('descriptors that only seem to be closed', "$nr{close_range}=0", 'descriptors', qr/is open/);
broken('mounts that only seem to be id-mapped', "$nr{mount_setattr}=0", 'volume', qr/denied/);

sub landlock_abi {
    my $abi = syscall $nr{landlock_create_ruleset}, 0, 0, 1;
    return $abi;
}

subtest 'landlock only seems to work' => sub {
    my $brood = Brood->start(ready => 0, wrap => [$filtered, "$nr{landlock_restrict_self}=0", '--']);
    ok($brood->wait_exit(20), 'the start ends');
    isnt($brood->{status} >> 8, 0, 'with an error');
    like(slurp($brood->{log}), qr/engine: it gave that up, but it could still open a file/, 'our own processes ask before any run does');
};

subtest 'landlock as the policy has it' => sub {
    my $dir = tempdir(CLEANUP => 1);
    my $layers = sub {
        spew("$dir/policy.yaml", "policies: {default: {landlock: {$_[0]}}}\n");
        my $brood = Brood->start('policy-file' => "$dir/policy.yaml");
        my $doc = $brood->request(GET => '/v1/capabilities')->{json};
        $brood->stop;
        return map { $_ => layer_of($doc, $_)->{state} } qw(landlock landlock-tcp landlock-scope);
    };
    my %state = $layers->('tcp_bind: none');
    is($state{'landlock-tcp'}, 'held', 'a port that is closed is tried') if landlock_abi() >= 4;
    %state = $layers->('tcp_bind: [65535, 80]');
    is($state{'landlock-tcp'}, 'held', '... one that is not in the list') if landlock_abi() >= 4;
    %state = $layers->('files: off, signals: off');
    is_deeply(\%state, {'landlock' => 'absent', 'landlock-tcp' => 'absent', 'landlock-scope' => 'absent'}, 'what is off is not asked, and said to be absent');
};

subtest 'a layer that is missing' => sub {
    my $rule = "$nr{landlock_create_ruleset}=38"; # ENOSYS, as without it
    my $brood = Brood->start(ready => 0, wrap => [$filtered, $rule, '--']);
    ok($brood->wait_exit(20), 'the start ends');
    isnt($brood->{status} >> 8, 0, 'with an error');
    like(slurp($brood->{log}), qr/landlock is missing.*CONFIG_SECURITY_LANDLOCK.*optional_layers/, 'that names layer, option and remedy');
    is((doctor([$rule]))[1], 1, 'doctor exits 1');
};

subtest 'an optional layer' => sub {
    my @wrap = ($filtered, "$nr{unshare},0,has,0x2000000=1", '--');
    my $brood = Brood->start('optional-layers' => 'cgroupns', wrap => \@wrap);
    my ($line) = grep { ($_->{event} // '') eq 'layers' } $brood->log_lines;
    like($line->{missing}, qr/\bcgroupns\b/, 'the log says that it is missing');
    my $doc = $brood->request(GET => '/v1/capabilities')->{json};
    my $layer = layer_of($doc, 'cgroupns');
    is($layer->{state}, 'absent', 'so do the capabilities');
    ok(!$layer->{required}, 'and that it is not required');
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'the service works without it');
    my ($text, $status) = output_of("$build/brood", 'doctor', '--json', '--socket', $brood->{socket});
    is($status, 0, 'doctor is content');
    is(layer_of(decode_json($text), 'cgroupns')->{state}, 'absent', 'and says so');
    $brood->stop;
    my $dir = tempdir(CLEANUP => 1);
    spew("$dir/policy.yaml", "policies: {default: {required: [cgroupns]}}\n");
    $brood = Brood->start('optional-layers' => 'cgroupns', 'policy-file' => "$dir/policy.yaml", wrap => \@wrap, ready => 0);
    ok($brood->wait_exit(20) && $brood->{status} != 0, 'unless a policy requires it');
    $brood = Brood->start('optional-layers' => 'userns', ready => 0);
    ok($brood->wait_exit(10) && $brood->{status}, 'what everything rests on cannot be optional');
    like(slurp($brood->{log}), qr/userns.*cannot be left out/, 'the start says so');
};

subtest 'killed in the middle' => sub {
    my $brood = Brood->start(ready => 0);
    ok($brood->wait_log(qr/"event":"primordial"/, 10), 'it has begun');
    $brood->signal('KILL');
    ok($brood->wait_exit(5), 'killed');
    $brood->restart;
    ok(until_true(5, sub { !grep { /^\.(?!lock)/ && !/^\.blank-$brood->{pid}-/ } $brood->entries }), 'the next start leaves nothing of it');
    $brood->stop;
    is_deeply([grep { $_ ne '.lock' } $brood->entries], [], 'nor does its end');
    is_deeply([$brood->cgroup_dirs], [], 'no cgroup is left');
};

done_testing;
