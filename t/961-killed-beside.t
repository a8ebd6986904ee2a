# SPDX-License-Identifier: Apache-2.0
# kill -9 beside the states of a slot (t/960-killed.t): of a zygote on its way; in the probe at start, of who deletes a
# removed tree, of who compiles the policies of a reload, in the drain. What is asked gets an answer, what was told to
# end ends, and nothing is left.
use lib 't/lib';
use Brood;
use Brood::Killed;

require_layer('root', 'cgroup');

sub rm {
    my ($brood, $ns) = @_;
    return 0 == system Brood::build() . "/brood ns rm $ns --socket $brood->{socket} >/dev/null 2>&1";
}

subtest 'a zygote that starts' => sub {
    my $brood = start_one('namespaces-spares' => 0);
    $brood->sh(base => 'echo kept > note.txt');
    my $caught;
    for my $try (1 .. 30) { # a start takes 3 ms
        my %old = map { $_ => 1 } $brood->pids('zygote');
        my $conn = $brood->post("begins-$try" => 'echo hi');
        my $pid = stop_next_child($brood, sub { my ($own) = $_[0] =~ /^Pid:\s+(\d+)/m; is_zygote($_[0]) && !$old{$own} });
        if ($pid && stats($brood)->{starting}) {
            $caught = kill KILL => $pid;
            my $r = $brood->result($conn, IN_TIME);
            is_deeply([$r->{http}, $r->{error}{code}], [503, 'activation_failed'], "is killed, try $try: its request is told");
            is($brood->sh("begins-$try" => 'echo hi', timeout => IN_TIME)->{stdout}, "hi\n", 'the next one works');
            last;
        }
        kill CONT => $pid if $pid;
        $brood->result($conn, IN_TIME);
    }
    ok($caught, 'one was caught');
    $brood->stop;
    is_clean($brood, 'at the end');
};

# A remover answers for the slots that it began with, not for those that end while it works.
subtest 'an end while cgroups are removed' => sub {
    my $brood = start_one();
    my $other = $brood->zygote_of('other');
    $brood->sh(other => 'head -c 20000000 /dev/zero > large; rm large; head -c 20000000 /dev/zero > large'); # or they are kept
    my ($slot) = map { m{/brood-[^/\n]+/(?:runs/)?(s\d+)$}m ? $1 : () } map { slurp("/proc/$_->{pid}/cgroup") // '' } grep { $_->{ppid} == $other } $brood->processes;
    my $held = hold_removing($brood, 'first');
    kill KILL => $other;
    wait_stat($brood, ending => 2);
    until_true(IN_TIME, sub { state_of($other) eq 'gone' });
    go_on($held);
    is_answered($brood, 'first', $held, 'ok', 'the one that waited');
    wait_stat($brood, ending => 0);
    is(join(' ', grep { m{/\Q$slot\E$} } $brood->cgroup_dirs), '', "the cgroups of the other, $slot, are gone when its end is told");
    $brood->stop;
    is_clean($brood, 'at the end');
};

subtest 'removal' => sub {
    my $brood = start_one();
    $brood->sh(base => 'echo kept > note.txt');
    for my $who (qw(sweeper engine priv)) {
        my ($sweeper, $tries);
        until_true(30, sub {
            $brood->sh(large => 'for i in {1..3000}; do : > $i; done', timeout => 20)->{http} == 200 or return 0;
            rm($brood, 'large') or return 0;
            $tries++;
            return $sweeper = stop_next_child($brood, sub { $_[0] =~ /^Name:\s+brood-super/m && $_[0] =~ /^Uid:\s+1000\s/m }, sub { !grep { /^\.trash-/ } $brood->entries });
        });
        ok($sweeper, "$who: a tree is being deleted, try $tries") or next;
        ok(scalar(grep { /^\.trash-/ } $brood->entries), "$who: and is not gone yet");
        is($brood->sh(large => 'ls | wc -l')->{stdout}, "0\n", "$who: the namespace may come again meanwhile");
        kill_now($who eq 'sweeper' ? $sweeper : $brood->pids($who) > 1 ? $brood->{pid} : $brood->pids($who)) if $who ne 'engine';
        if ($who eq 'sweeper') {
            ok($brood->wait_log(qr/"event":"sweep_failed"/), "$who: the log has it");
            is($brood->sh(base => 'cat note.txt')->{stdout}, "kept\n", "$who: everything works");
            $brood->sh(small => 'true');
            ok(rm($brood, 'small'), "$who: the next removal works");
            ok(until_true(20, sub { !grep { /^\.trash-/ } $brood->entries }), "$who: and takes the tree along");
        } else {
            kill_now((grep { $_ != $sweeper } $brood->pids('engine'))[0]) if $who eq 'engine';
            is_over($brood, $who, {stopped => [], release => kill(CONT => $sweeper) && undef});
        }
    }
    $brood->stop;
    is_clean($brood, 'at the end');
};

subtest 'a reload' => sub {
    my $dir = Brood::_temp_dir();
    spew("$dir/policy.yaml", "policies:\n  default:\n    memory_mb: 300\n");
    my $brood = start_one('policy-file' => "$dir/policy.yaml");
    my $generations = sub { scalar(() = slurp($brood->{log}) =~ /"event":"policies"/g) };
    $brood->sh(base => 'echo kept > note.txt');
    for my $who (qw(compiler engine priv)) {
        unlink "$dir/policy.yaml";
        POSIX::mkfifo("$dir/policy.yaml", 0644); # who reads it waits
        $brood->signal('HUP');
        my $compiler;
        until_true(IN_TIME, sub { ($compiler) = grep { $_ != $brood->{pid} } $brood->pids('priv') });
        ok($compiler, "$who: the compiler reads") or next;
        kill_now($who eq 'compiler' ? $compiler : $who eq 'priv' ? $brood->{pid} : $brood->pids('engine'));
        unlink "$dir/policy.yaml" if $who ne 'priv';
        spew("$dir/policy.yaml", "policies:\n  default:\n    memory_mb: 200\n") if $who ne 'priv';
        if ($who eq 'compiler') {
            ok($brood->wait_log(qr/"event":"policies_kept".*died/), "$who: the old ones are kept, and the log says why");
            is($brood->sh(base => 'cat note.txt')->{stdout}, "kept\n", "$who: everything works");
            my $was = $generations->();
            $brood->signal('HUP');
            ok(until_true(IN_TIME, sub { $generations->() > $was }), "$who: the next reload is a new one");
            is($brood->sh(new => 'echo hi')->{stdout}, "hi\n", "$who: a new namespace works");
            next;
        }
        if ($who eq 'priv') { # its compiler waits for the file still
            open my $out, '>', "$dir/policy.yaml";
            close $out;
            unlink "$dir/policy.yaml";
            spew("$dir/policy.yaml", "policies:\n  default:\n    memory_mb: 200\n");
        }
        is_over($brood, $who, {});
    }
    $brood->stop;
    is_clean($brood, 'at the end');
};

subtest 'the probe at start' => sub {
    for my $who (qw(zygote child primordial engine priv)) {
        my ($brood, $zygote, %found);
        for my $try (1 .. 20) {
            $brood = Brood->start('namespaces-spares' => 1, ready => 0);
            $zygote = stop_next_child($brood, \&is_zygote);
            if ($zygote && $who eq 'child') { # it was held before it had one
                kill CONT => $zygote;
                my $until = time + 1; # without a pause: it lives for milliseconds
                1 until slurp("/proc/$zygote/task/$zygote/children") || time > $until;
                kill STOP => $zygote;
            }
            $found{$_->{role}} = $_->{pid} for $zygote ? $brood->processes : ();
            last if $zygote && !$found{frontend} && ($who ne 'child' || $found{child});
            kill CONT => $zygote if $zygote;
            $brood->wait_ready(20) && $brood->stop;
            ($zygote, %found) = ();
        }
        ok($zygote, "$who: it was caught") or next;
        $found{zygote} = $zygote;
        kill_now($found{$who});
        kill CONT => $zygote;
        if ($who eq 'primordial' || $who eq 'child') { # the probe needs it not, or has another; a question lost is a start lost
            ok($brood->wait_ready(20) || ($brood->exited && $brood->{status}), "$who: it starts, or ends with an error");
            if (!$brood->exited) {
                is($brood->sh(base => 'echo hi')->{stdout}, "hi\n", "$who: and serves");
                $brood->stop;
            }
        } else {
            ok($brood->wait_exit(20) && $brood->{status}, "$who: the start fails");
            ok(!-e $brood->{http} || !Brood::Conn->open(path => $brood->{http}), "$who: nobody was served");
        }
        is_nothing_left($brood, $who);
        $brood->_spawn;
        ok($brood->wait_ready(20), "$who: the next start works");
        $brood->stop;
        is_clean($brood, $who);
    }
};

subtest 'the drain' => sub {
    my %want = (zygote => 'internal', run => 'signal', mould => 'ok', reserve => 'ok', primordial => 'ok', frontend => undef, engine => undef, priv => undef);
    for my $who (sort keys %want) {
        my $brood = start_one();
        $brood->sh(base => 'echo kept > note.txt');
        my $held = hold_busy($brood, 'drained');
        $brood->signal('TERM');
        ok($brood->wait_log(qr/"event":"stopping"/) && until_true(IN_TIME, sub { !%{stats($brood)} }), "$who: it is stopping, and listens to nobody new");
        my ($pid) = victim($brood, $held, $who);
        kill_now($pid);
        if ($who =~ /^(?:engine|priv)$/) {
            is_over($brood, $who, $held);
            $brood->stop;
        } else {
            my $keep = $who =~ /^(?:frontend|zygote|run)$/ ? undef : go_on($held);
            is_answered($brood, 'drained', $held, $want{$who}, $who) if $want{$who};
            ok($held->{conn}->closed(IN_TIME), "$who: its connections end") if !$want{$who};
            ok($brood->wait_exit(15), "$who: the service ends");
            is($brood->{status}, 0, "$who: as it was told to");
        }
        is_clean($brood, $who);
    }
};

done_testing;
