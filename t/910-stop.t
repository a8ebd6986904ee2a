# SPDX-License-Identifier: Apache-2.0
# The end: what runs may finish within its grace, nothing new begins, the exit status is 0, and nothing is left -
# no process, mount, cgroup, socket. What a kill -9 left is found and removed by the next start.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

# What was here before: mounts, and files in /dev/shm.
my %before = map { $_ => 1 } Brood->mounts, glob '/dev/shm/*';

sub is_nothing_left {
    my ($brood, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    subtest "$what: nothing is left" => sub {
        my @left;
        ok(until_true(5, sub { !(@left = $brood->processes) }), 'no process') or diag(join ' ', map { "$_->{role} $_->{pid}" } @left);
        is(join("\n", grep { !$before{$_} } $brood->mounts, grep { /brood/ } glob '/dev/shm/*'), '', 'no mount, no file in memory');
        is(join(' ', $brood->cgroup_dirs), '', 'no cgroup');
        ok(!-e $brood->{$_}, "no $_ socket") for qw(socket http);
        is(join(' ', grep { /^\./ && $_ ne '.lock' } $brood->entries), '', 'nothing unfinished in fs_root');
    };
}

subtest 'SIGTERM while something runs' => sub {
    my $brood = Brood->start(tcp => 1);
    $brood->sh($_ => 'echo kept > note.txt; sleep 60 & ipcmk -M 4096') for qw(alice bob carol);
    cmp_ok(scalar($brood->cgroup_dirs), '>', 0, 'control: there are cgroups while it serves');
    my $conn = $brood->post(alice => 'touch alice-runs; sleep 1; echo finished');
    my $queued = $brood->post(alice => 'echo queued');
    my $keep = $brood->connect;
    $keep->put(Brood::Conn->request(GET => '/health')) && $keep->get(5);
    $brood->wait_file('alice-runs');
    my $begin = time;
    $brood->signal('TERM');
    ok($brood->wait_log(qr/"event":"stopping"/), 'it is stopping');
    ok(until_true(2, sub {
        my $late = $brood->connect or return 1;
        $late->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => 'bob', cmd => 'touch began-late'}));
        my $res = $late->get(1);
        return !$res || $res->{status} == 503;
    }), 'soon who comes is refused or not let in');
    unlink "$brood->{fs_root}/bob/began-late"; # the first may have slipped in before the frontend knew
    for my $via (qw(unix tcp)) {
        my $late = $brood->connect(via => $via) or next;
        $late->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => 'bob', cmd => 'touch began-late'}));
        my $res = $late->get(1);
        ok(!$res || $res->{status} == 503, "a new connection is refused, $via");
    }
    if ($keep->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => 'bob', cmd => 'touch began-late'}))) {
        my $res = $keep->get(1);
        ok(!$res || $res->{status} == 503, 'so is a request on an old connection');
    }
    ok(!-e "$brood->{fs_root}/bob/began-late", 'nothing new has begun');
    my $r = $brood->result($conn, 5);
    is_deeply([@$r{qw(http stdout reason)}], [200, "finished\n", 'exit'], 'what ran has finished and is answered');
    $r = $brood->result($queued, 5);
    ok(($r->{http} == 200 && $r->{stdout} eq "queued\n") || $r->{http} == 503, "what was accepted before is answered as well ($r->{http})");
    ok($brood->wait_exit(10) && $brood->{status} == 0, 'exit status 0') or diag($brood->{status});
    cmp_ok(time - $begin, '<', 6, sprintf 'without waiting for the whole grace (%.1f s)', time - $begin);
    is_nothing_left($brood, 'after it');
    $brood->_spawn;
    ok($brood->wait_ready(20), 'it starts again');
    is(join('', map { $brood->sh($_ => 'cat note.txt')->{stdout} } qw(alice bob carol)), "kept\n" x 3, 'with all files');
    $brood->stop;
};

subtest 'an idle service stops at once' => sub {
    my $brood = Brood->start;
    $brood->sh("ns-$_" => 'true') for 1 .. 30;
    my $idle = $brood->connect;
    my $begin = time;
    $brood->stop;
    cmp_ok(time - $begin, '<', 4, sprintf '%.2f s', time - $begin);
    is_nothing_left($brood, '30 namespaces');
    $brood = Brood->start;
    $brood->signal('INT');
    ok($brood->wait_exit(10) && $brood->{status} == 0, 'SIGINT is the same');
    is_nothing_left($brood, 'after SIGINT');
};

subtest 'a run that does not end' => sub {
    my $brood = Brood->start('runs-drain' => '1s');
    my $conn = $brood->post(alice => q{trap '' TERM; touch alice-runs; setsid sleep 60 & while :; do sleep 60; done}, timeout => 60);
    $brood->wait_file('alice-runs');
    my $begin = time;
    $brood->signal('TERM');
    ok($brood->wait_exit(10), 'the service ends');
    my $took = time - $begin;
    is($brood->{status}, 0, 'with exit status 0');
    cmp_ok($took, '>=', 0.95, 'not before its grace of 1 s');
    cmp_ok($took, '<', 5, sprintf 'nor long after it (%.1f s)', $took);
    ok($conn->closed(2) || $conn->readable, 'who waited is told');
    is_nothing_left($brood, 'after the grace');
};

subtest 'a second SIGTERM' => sub {
    my $brood = Brood->start('runs-drain' => '30s');
    my $conn = $brood->post(alice => q{trap '' TERM; touch alice-runs; sleep 60; sleep 60}, timeout => 60);
    $brood->wait_file('alice-runs');
    $brood->signal('TERM');
    ok($brood->wait_log(qr/"event":"stopping"/), 'the first one is seen');
    ok(!$brood->wait_exit(0.5), 'and waits');
    my $begin = time;
    $brood->signal('TERM');
    ok($brood->wait_exit(10), 'the second one does not');
    cmp_ok(time - $begin, '<', 3, sprintf '%.1f s', time - $begin);
    is($brood->{status}, 0, 'exit status 0');
    is_nothing_left($brood, 'after two');
};

subtest 'SIGTERM to all, as systemd and timeout(1) send it' => sub {
    my $brood = Brood->start('runs-drain' => '30s');
    my $conn = $brood->post(alice => 'touch alice-runs; until [ -e go ]; do sleep 0.02; done; echo finished');
    $brood->wait_file('alice-runs');
    my @ours = map { $_->{pid} } grep { $_->{role} =~ /^(?:priv|engine|frontend|courier)$/ } $brood->processes;
    cmp_ok(scalar @ours, '>=', 3, "control: @ours");
    kill TERM => grep { $_ != $brood->{pid} } @ours;
    is($brood->sh(bob => 'echo served')->{stdout}, "served\n", 'to all but the supervisor: it is nothing');
    kill TERM => -$brood->{pid};
    ok($brood->wait_log(qr/"event":"stopping"/), 'to the whole group: it is stopping');
    spew("$brood->{fs_root}/alice/go", '');
    my $r = $brood->result($conn, 10);
    is_deeply([@$r{qw(http stdout reason)}], [200, "finished\n", 'exit'], 'what ran has finished and is answered');
    ok($brood->wait_exit(10) && $brood->{status} == 0, 'exit status 0') or diag($brood->log_tail);
    is_nothing_left($brood, 'after it');
};

subtest 'SIGTERM during the start and in the middle of a storm' => sub {
    for my $ms (0, 10, 30, 60, 100) {
        my $brood = Brood->start(ready => 0);
        select undef, undef, undef, $ms / 1000; # not a synchronisation: any moment must do
        $brood->signal('TERM');
        ok($brood->wait_exit(10), "$ms ms after the start: it ends");
        ok(until_true(5, sub { !$brood->processes }), 'with everything') or diag(join ' ', map { $_->{role} } $brood->processes);
    }
    my $brood = Brood->start('namespaces-active-max' => 20);
    my @conns = map { $brood->post("storm-" . $_ % 40 => 'sleep 0.01; echo x >> log') } 1 .. 300;
    my @first = map { $brood->result($_) } splice @conns, 0, 50;
    $brood->signal('TERM');
    my @results = map { $brood->result($_, 20) } @conns;
    my @http = map { $_->{http} } @results;
    my %count;
    $count{$_}++ for @http;
    is(scalar(grep { $_ != 200 && $_ != 503 && $_ != 0 } @http), 0, 'of 250 requests on their way each is done, refused or cut off: ' . join(', ', map { "$count{$_} x $_" } sort keys %count));
    ok($brood->wait_exit(40) && $brood->{status} == 0, 'exit status 0');
    my $lines = 0;
    $lines += () = (slurp($_) // '') =~ /\n/g for glob "$brood->{fs_root}/storm-*/log";
    my $answered = grep { $_->{http} == 200 && ($_->{reason} // '') eq 'exit' } @first, @results; # the grace may cut one off
    cmp_ok($lines, '>=', $answered, "no run is said to be done that was not ($lines, $answered)");
    is_nothing_left($brood, 'after the storm');
};

subtest 'two instances' => sub {
    my $first = Brood->start;
    $first->sh(alice => 'echo kept > note.txt');
    my $second = Brood->start(ready => 0, 'fs-root' => $first->{fs_root});
    ok($second->wait_exit(10), 'a second one on the same fs_root ends');
    isnt($second->{status}, 0, 'without success');
    like(slurp($second->{log}), qr/in use/, 'and says why');
    $second = Brood->start(ready => 0, socket => $first->{socket});
    ok($second->wait_exit(10), 'so does one on the same socket');
    isnt($second->{status}, 0, 'without success');
    like(slurp($second->{log}), qr/\Q$first->{socket}\E.*in use/, 'naming it');
    my $port = Brood->start(tcp => 1);
    $second = Brood->start(ready => 0, 'http-port' => $port->{port});
    ok($second->wait_exit(10), 'and one on the same port');
    like(slurp($second->{log}), qr/listen on .*$port->{port}.*in use/, 'naming it');
    is($first->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'the first one serves on');
    ok(-e $first->{socket} && -e $first->{http}, 'with its sockets');
    my $third = Brood->start;
    is($third->sh(alice => 'cat note.txt')->{exit_code}, 1, 'side by side two with different roots share nothing');
    $_->stop for $third, $port, $first;
};

subtest 'left by a kill -9' => sub {
    my $brood = Brood->start;
    $brood->sh(alice => 'echo kept > note.txt');
    my $conn = $brood->post(alice => 'touch alice-runs; sleep 60');
    $brood->wait_file('alice-runs');
    my @all = map { $_->{pid} } $brood->processes;
    kill KILL => @all;
    ok($brood->wait_exit(10), 'everything was killed at once');
    ok(until_true(5, sub { !$brood->processes }), 'and is gone');
    ok(-e $brood->{socket}, 'control: a socket is left');
    my @cgroups = $brood->cgroup_dirs;
    cmp_ok(scalar @cgroups, '>', 0, 'control: ' . @cgroups . ' cgroups are left');
    mkdir "$brood->{fs_root}/.new-4711-1";
    mkdir "$brood->{fs_root}/.trash-4711-1";
    mkdir "$brood->{fs_root}/.trash-4711-1/deep";
    spew("$brood->{fs_root}/.trash-4711-1/deep/file", 'x');
    system 'chown', '-R', '1000:1000', "$brood->{fs_root}/.trash-4711-1";
    $brood->_spawn;
    ok($brood->wait_ready(20), 'the next start works') or diag($brood->log_tail);
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'with the files');
    ok(until_true(5, sub { !grep { /^\.(?:new|trash)/ } $brood->entries }), 'unfinished creations and removals are gone');
    $brood->stop;
    is_nothing_left($brood, 'after the next stop');
};

subtest 'the same again and again' => sub {
    my $brood = Brood->start;
    for (1 .. 5) {
        $brood->sh("ns-$_" => 'echo x > x') for 1 .. 5;
        $brood->restart;
    }
    $brood->stop;
    is_nothing_left($brood, 'five restarts');
};

done_testing;
