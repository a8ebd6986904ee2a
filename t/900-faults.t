# SPDX-License-Identifier: Apache-2.0
# Each of our processes is killed, each resource runs out: who is hit says so, everybody else goes on, and what is
# left behind is nothing.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

sub alive {
    my ($brood, $pid) = @_;
    return scalar grep { $_->{pid} == $pid } $brood->processes;
}

# Waits until a role is held by another process than before; its pid.
sub successor {
    my ($brood, $role, $before) = @_;
    my $pid;
    until_true(10, sub { ($pid) = grep { $_ != $before } $brood->pids($role) });
    return $pid;
}

subtest 'a zygote is killed' => sub {
    my $brood = Brood->start;
    $brood->sh(alice => 'echo kept > note.txt');
    my $zygote = $brood->zygote_of('alice');
    my $conn = $brood->post(alice => 'touch alice-runs; echo begun; sleep 60');
    my @queued = ($brood->wait_file('alice-runs') && ());
    @queued = map { $brood->post(alice => "echo $_; cat note.txt") } 1 .. 3;
    my $bob = $brood->post(bob => 'touch bob-runs; sleep 0.6; echo bob');
    $brood->wait_file('bob-runs');
    my $begin = time;
    kill KILL => $zygote;
    my $r = $brood->result($conn, 10);
    is($r->{http}, 500, 'its run fails as our fault: 500');
    is(ref $r->{error} eq 'HASH' ? $r->{error}{code} : $r->{reason}, 'internal', 'which is called internal');
    cmp_ok(time - $begin, '<', 1.5, 'at once');
    is(join('', map { $brood->result($_, 10)->{stdout} } @queued), "1\nkept\n2\nkept\n3\nkept\n", 'the queue behind it is served by another zygote');
    is($brood->result($bob)->{stdout}, "bob\n", 'a neighbour did not notice');
    $r = $brood->sh(alice => 'cat note.txt');
    is($r->{stdout}, "kept\n", 'the next one works, with the files');
    isnt($brood->zygote_of('alice'), $zygote, 'in another zygote');
    ok($brood->wait_log(qr/"event":"zygote_lost".*"ns":"alice"/), 'the log says what happened');

    $zygote = $brood->zygote_of('alice');
    kill KILL => $zygote;
    ok($brood->wait_log(qr/"event":"zygote_lost".*"event":"zygote_lost"/s), 'an idle one is killed');
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'the next request finds another');
    # Killed and asked at the same moment: that request may fail, it may not hang, and the one after it works.
    for (1 .. 10) {
        $zygote = $brood->zygote_of('alice');
        kill KILL => $zygote;
        my $r = $brood->sh(alice => 'echo now', timeout => 5);
        my @also = $r->{http} == 200 ? () : $brood->sh(alice => 'echo now', timeout => 5);
        push @queued, $r->{http};
        ok($r->{http} == 200 || ($r->{http} == 500 && $also[0]{http} == 200), "killed and asked at once: $r->{http}");
    }
    # One that is stopped does not answer: the engine's second clock ends it.
    $zygote = $brood->zygote_of('alice');
    kill STOP => $zygote;
    $begin = time;
    $r = $brood->sh(alice => 'echo stopped', timeout => 1);
    cmp_ok(time - $begin, '<', 8, "a stopped one does not hold a request for ever ($r->{http})");
    ok(until_true(5, sub { $brood->sh(alice => 'cat note.txt', timeout => 2)->{stdout} eq "kept\n" }), 'and is replaced');
    ok(!alive($brood, $zygote), 'it is gone');
    is(scalar(grep { ($_->{event} // '') =~ /^bug_/ } $brood->log_lines), 0, 'nothing that cannot happen has happened');
    $brood->stop;
};

subtest 'the primordial is killed' => sub {
    my $brood = Brood->start('namespaces-spares' => 2);
    my $zygote = $brood->zygote_of('alice');
    my ($primordial) = $brood->pids('primordial');
    ok($primordial, 'there is one');
    my $conn = $brood->post(alice => 'touch alice-runs; sleep 0.6; echo undisturbed');
    $brood->wait_file('alice-runs');
    kill KILL => $primordial;
    ok(until_true(5, sub { !alive($brood, $primordial) }), 'it dies');
    is($brood->result($conn)->{stdout}, "undisturbed\n", 'what runs goes on');
    is($brood->zygote_of('alice'), $zygote, 'active zygotes go on');
    my @r = map { $brood->sh("new-$_" => "echo $_") } 1 .. 10;
    is(scalar(grep { $_->{http} == 200 } @r), 10, 'ten new namespaces, more than there were spares, work') or diag(join ' ', map { $_->{http} } @r);
    my $next = successor($brood, primordial => $primordial);
    ok($next, 'another was started');
    kill KILL => $next;
    my @now = map { $brood->post("at-once-$_" => "echo $_") } 1 .. 6;
    my @http = map { $brood->result($_)->{http} } @now;
    is(scalar(grep { $_ == 200 || $_ == 503 } @http), 6, "killed and asked at once: 200 or 503 (@http)");
    ok(until_true(8, sub { $brood->sh(soon => 'echo hi')->{http} == 200 }), 'soon everything works');
    kill STOP => $_ for $brood->pids('primordial');
    my $begin = time;
    @now = map { $brood->post("stopped-$_" => "echo $_") } 1 .. 4;
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'while one is stopped active namespaces work') or diag(time - $begin);
    ok(until_true(25, sub { !grep { !$_->readable } @now }), 'nobody waits for ever');
    ok(until_true(10, sub { $brood->sh(later => 'echo hi')->{http} == 200 }), 'and it is replaced');
    $brood->stop;
};

subtest 'the frontend is killed' => sub {
    my $brood = Brood->start;
    my ($frontend) = $brood->pids('frontend');
    my $zygote = $brood->zygote_of('alice');
    my $conn = $brood->post(alice => q{trap '' TERM; touch alice-runs; sleep 60});
    my $waiting = $brood->post(alice => 'touch never-ran');
    $brood->wait_file('alice-runs');
    open my $cli, '-|', Brood::build() . "/brood exec -n bob --socket $brood->{socket} -- 'touch bob-runs; sleep 1; echo by hand'" or die;
    $brood->wait_file('bob-runs');
    kill KILL => $frontend;
    ok($conn->closed(2), 'its connections end');
    ok(successor($brood, frontend => $frontend), 'it is started again');
    ok($brood->wait_ready(5), 'and ready');
    my $begin = time;
    my $r = $brood->sh(alice => 'ls never-ran alice-runs', timeout => 5);
    like($r->{stdout}, qr/^alice-runs\n\z/, 'its runs were cancelled, the one that waited never ran');
    cmp_ok(time - $begin, '<', 2, 'and are not waited for');
    ok($brood->wait_log(qr/"event":"run".*"ns":"alice".*"reason":"cancelled"/), 'the log says cancelled');
    is($brood->zygote_of('alice'), $zygote, 'zygotes stay');
    is(do { local $/; <$cli> }, "by hand\n", 'who came over the other socket is not disturbed');
    close $cli;
    is($? >> 8, 0, 'and gets the exit code');
    # Twice more, with time between: that is no crash loop.
    for (1 .. 2) {
        my ($pid) = $brood->pids('frontend');
        kill KILL => $pid;
        ok(successor($brood, frontend => $pid) && $brood->wait_ready(8), 'again');
    }
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'it works');
    $brood->stop;
};

# After the end of everything: nothing runs, and the next start finds a clean house and all files.
sub finds_clean_house {
    my ($brood, $cgroups) = @_;
    my @left;
    ok(until_true(10, sub { !(@left = $brood->processes) }), 'every process is gone') or diag(join ' ', map { "$_->{role} $_->{pid}" } @left);
    $brood->_spawn;
    ok($brood->wait_ready(20), 'a start afterwards works') or diag($brood->log_tail);
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'the files are there');
    $brood->stop;
    is(join(' ', grep { -e } keys %$cgroups), '', 'no cgroup of either is left');
}

for my $role (qw(engine priv)) {
    subtest "the $role is killed" => sub {
        my $brood = Brood->start;
        $brood->sh(alice => 'echo kept > note.txt');
        my $conn = $brood->post(alice => q{trap '' TERM HUP; touch alice-runs; setsid sleep 60 & sleep 60});
        $brood->wait_file('alice-runs');
        my $cgroups = $brood->cgroups;
        cmp_ok(scalar keys %$cgroups, '>', 2, scalar(keys %$cgroups) . ' cgroups are in use');
        my ($pid) = $brood->pids($role);
        my $begin = time;
        kill KILL => $pid;
        ok($brood->wait_exit(15), sprintf 'the service ends (%.1f s)', time - $begin);
        isnt($brood->{status}, 0, 'not with success');
        ok($conn->closed(2) || $conn->readable, 'who waited for an answer is told');
        if ($role eq 'engine') {
            like(slurp($brood->{log}), qr/"event":"engine_died"/, 'the log says why');
            ok(!-e $brood->{socket} && !-e $brood->{http}, 'no socket is left');
        }
        finds_clean_house($brood, $cgroups);
    };
}

# A directory of programs like the build's, but with another frontend.
sub lib_dir_with {
    my ($frontend) = @_;
    my $dir = Brood::_temp_dir();
    symlink Brood::build() . "/$_", "$dir/$_" for qw(brood-zygote brood-zygote.so);
    return $dir unless defined $frontend;
    spew("$dir/brood-frontend", $frontend);
    chmod 0755, "$dir/brood-frontend";
    return $dir;
}

subtest 'a frontend that cannot live' => sub {
    for (['exits at once', "#!/bin/sh\nexit 4\n", qr/brood-frontend exited with 4/], ['is killed at once', "#!/bin/sh\nkill -SEGV \$\$\n", qr/brood-frontend was killed by signal 11/],
        ['is no program', "nonsense\n", qr/exec .*brood-frontend/], ['is not there', undef, qr/exec .*brood-frontend.*No such file/]) {
        my ($what, $text, $cause) = @$_;
        my $brood = Brood->start('lib-dir' => lib_dir_with($text), ready => 0);
        my $begin = time;
        ok($brood->wait_exit(20), sprintf 'one that %s ends the start (%.1f s)', $what, time - $begin);
        ok(!($brood->{status} & 127) && $brood->{status} >> 8, 'with an exit status');
        my @why = grep { ($_->{event} // '') eq 'frontend_crash_loop' } $brood->log_lines;
        is(scalar @why, 1, 'which the log explains');
        like($why[0]{error} // '', $cause, 'with the cause');
        is(scalar(my @left = $brood->processes), 0, 'nothing is left');
        ok(!-e $brood->{socket} && !-e $brood->{http}, 'no socket either');
    }
};

subtest 'the disk is full' => sub {
    my $dir = Brood::_temp_dir();
    Brood->mount_tmpfs("$dir/ns", 'size=1m,nr_inodes=60,mode=0700') or return fail('a small file system');
    my $brood = Brood->start(dir => $dir);
    is($brood->sh(alice => 'echo kept > note.txt; cat note.txt')->{stdout}, "kept\n", 'a small disk works');
    my $r = $brood->sh(alice => 'cat /dev/zero > big; echo "status $?"');
    is($r->{stdout}, "status 1\n", 'a run that fills it fails by itself');
    like($r->{stderr}, qr/No space left on device/, 'and says why');
    is($r->{http}, 200, 'which is no error of ours');
    is($brood->sh(alice => 'echo more > more; cat note.txt')->{exit_code}, 0, 'on a full disk what needs none works');
    is($brood->sh(bob => 'echo hi; echo x > x')->{stdout}, "hi\n", 'for a neighbour as well');
    $brood->sh(alice => 'i=0; while : > f$i; do ((i++)); done 2>/dev/null; true');
    # Up to eight directories were made ahead, while there was place; whoever comes first gets one.
    my ($status, $json, $headers);
    for my $new (map { "carol-$_" } 1 .. 9) {
        ($status, $json, $headers) = $brood->execute({namespace_id => $new, cmd => 'echo hi'});
        last if $status != 200;
    }
    is($status, 503, 'a new namespace cannot be made: 503');
    like($headers->{'retry-after'} // '', qr/^[1-9]\d*$/, 'with Retry-After');
    is($json->{error}{code}, 'activation_failed', 'that says activation_failed');
    unlike($json->{error}{message}, qr{\Q$dir}, 'and names no path of the host');
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'the others work');
    is($brood->request(GET => '/ready')->{status}, 200, 'the service is ready');
    is($brood->sh(alice => 'rm -f f* big')->{exit_code}, 0, 'place is made');
    ok(until_true(10, sub { $brood->sh('carol-9' => 'echo hi')->{http} == 200 }), 'now a new one works');
    is(join(' ', grep { /^\./ && $_ ne '.lock' } $brood->volumes), '', 'nothing unfinished lies about');
    $brood->stop;
};

sub count_fds {
    my ($pid) = @_;
    return scalar(my @fds = glob "/proc/$pid/fd/*");
}

sub highest_fd {
    my ($pid) = @_;
    return (sort { $b <=> $a } map { m{/(\d+)$} } glob "/proc/$pid/fd/*")[0];
}

sub cpu_ticks {
    my ($pid) = @_;
    my @f = split ' ', slurp("/proc/$pid/stat") =~ s/.*\) //r;
    return $f[11] + $f[12];
}

subtest 'no descriptors left' => sub {
    for my $role (qw(frontend engine)) {
        my $brood = Brood->start('namespaces-spares' => 1);
        $brood->sh($_ => 'true') for qw(alice bob);
        my ($pid) = $brood->pids($role);
        my $open = count_fds($pid);
        ok($brood->prlimit($pid, '--nofile=' . (highest_fd($pid) + 1) . ':'), "the $role gets no more descriptors");
        my $begin = time;
        my @conns = grep { defined } map { $brood->post("full-$_" => "echo $_") } 1 .. 30;
        my $ticks = cpu_ticks($pid);
        my $known = $brood->request(GET => '/health', timeout => 5);
        ok($known && $known->{status} == 200, 'who is connected is answered');
        select undef, undef, undef, 0.5;
        cmp_ok(cpu_ticks($pid) - $ticks, '<', 30, 'it does not spin');
        ok(alive($brood, $pid), 'it lives');
        my @early = grep { $_->readable } @conns;
        my @status = map { $brood->result($_, 2)->{http} } @early;
        is(scalar(grep { $_ != 200 && $_ != 503 && $_ != 500 && $_ != 0 } @status), 0, 'answers, if any, say so: ' . join(' ', @status));
        ok($brood->prlimit($pid, '--nofile=20000:'), 'it gets some again');
        my %was_early = map { $_ => 1 } @early;
        $_->get(20) for grep { !$was_early{$_} } @conns;
        ok(until_true(10, sub { $brood->sh(alice => 'echo hi', timeout => 5)->{http} == 200 }), 'everything works again');
        ok(until_true(10, sub { $brood->sh('new' => 'echo hi')->{http} == 200 }), 'new namespaces, too');
        $_->close for @conns;
        ok(until_true(5, sub { count_fds($pid) <= $open + 12 * 30 }), 'no descriptor was lost') if $role eq 'frontend';
        $brood->stop;
    }
};

subtest 'a zygote cannot fork' => sub {
    my $brood = Brood->start('namespaces-standby-idle' => '100ms');
    $brood->sh(alice => 'echo kept > note.txt');
    my $zygote = $brood->zygote_of('alice');
    ok(until_true(5, sub { !grep { $_->{ppid} == $zygote } $brood->processes }), 'no child waits');
    ok($brood->prlimit($zygote, '--nproc=0'), 'it may have no more processes');
    my $r = $brood->sh(alice => 'echo hi', timeout => 5);
    is($r->{http}, 500, 'the run fails as our fault');
    is(ref $r->{error} eq 'HASH' ? $r->{error}{code} : $r->{reason}, 'internal', 'called internal');
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'the next one works');
    is($brood->sh(bob => 'echo hi')->{stdout}, "hi\n", 'neighbours, too');
    ok($brood->wait_log(qr/"event":"zygote_lost".*(?:Resource temporarily unavailable|fork)/), 'the log says why');
    # The same while a child waits already: that run works, the next finds another zygote.
    $zygote = $brood->zygote_of('alice');
    ok($brood->prlimit($zygote, '--nproc=0'), 'once more, with a child that waits');
    my @http = map { $brood->sh(alice => 'cat note.txt', timeout => 5)->{http} } 1 .. 4;
    is(scalar(grep { $_ == 200 } @http[1 .. 3]) >= 2, 1, "at most one fails (@http)");
    $brood->stop;
};

done_testing;
