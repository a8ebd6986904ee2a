# SPDX-License-Identifier: Apache-2.0
# kill -9 of everything that a companion depends on, in each state: being born, assigned, idle, busy; of its zygote, of its
# namespace's, of the primordial; of the client. Each request gets an answer, the next one works, nothing is left, and no
# uid of one tenant is another's meanwhile.
use lib 't/lib';
use Brood;
use Brood::Killed;
use Brood::Wire;

require_layer('root', 'cgroup');
my $brood = start_one('namespaces-spares' => 1, 'sessions-per-namespace' => 4, 'terminals-per-namespace' => 4);
my $wire = Brood::Wire->new($brood);

sub parent_of { my ($ns) = @_; return $brood->zygote_of($ns) }

# The zygote behind a companion: the one whose run says so.
sub zygote_of_companion {
    my ($ns, $name) = @_;
    my ($want) = $wire->run(ns => $ns, session => $name, cmd => 'readlink /proc/self/ns/pid')->{stdout} =~ /(pid:\[\d+\])/ or return 0;
    return (grep { (readlink("/proc/$_/ns/pid") // '') eq $want } $brood->pids('zygote'))[0];
}

sub uid_of { my ($pid) = @_; return ((slurp("/proc/$pid/uid_map") // '') =~ /^\s*0\s+(\d+)/)[0] // 'none' }

sub works { my ($ns, $what) = @_; is($wire->run(ns => $ns, session => 'again', cmd => 'echo works')->{stdout}, "works\n", "$what: the next one works") }

subtest 'idle and busy' => sub {
    for my $state (qw(idle busy)) {
        for my $who (qw(companion parent)) {
            my $what = "$who, $state";
            my $pid = zygote_of_companion("ns-$state", 's');
            ok($pid, "$what: there is one") or next;
            my $parent = parent_of("ns-$state");
            is(uid_of($pid), uid_of($parent), "$what: it has the uids of its namespace");
            my $tag = $state eq 'busy' ? $wire->send(ns => "ns-$state", session => 's', cmd => "touch $who-on; sleep 60") : 0;
            ok(!$tag || $brood->wait_file("$who-on"), "$what: as it should be");
            kill KILL => $who eq 'parent' ? $parent : $pid;
            my $r = $tag ? $wire->result($tag) : {};
            is($r->{outcome}, 8, "$what: its run is told") if $tag;
            ok(until_true(IN_TIME, sub { state_of($pid) eq 'gone' }), "$what: it is gone");
            works("ns-$state", $what);
            is($brood->sh("ns-$state" => 'echo run')->{stdout}, "run\n", "$what: runs go on");
        }
    }
};

# A parent whose end is told has no companion any more, even when the engine cannot say a word.
subtest 'the uids of a slot' => sub {
    my $pid = zygote_of_companion('tenant', 's');
    my $parent = parent_of('tenant');
    my $uid = uid_of($parent);
    my ($engine) = $brood->pids('engine');
    kill KILL => $parent;
    ok(until_true(IN_TIME, sub { state_of($pid) eq 'gone' }), 'a companion goes with its parent');
    my @seen;
    for (1 .. 6) {
        my $r = $brood->sh("next-$_" => 'true');
        push @seen, grep { uid_of($_) eq $uid && state_of($pid) ne 'gone' } $brood->pids('zygote');
    }
    is("@seen", '', 'nobody has its uids before');
    works('tenant', 'the uids');
};

subtest 'a companion that is being born' => sub {
    my ($caught, %done) = (0);
    for my $who (qw(companion parent primordial)) {
        for my $try (1 .. 40) {
            $brood->sh("birth-$try" => 'true');
            my $parent = parent_of("birth-$try");
            my %old = map { $_ => 1 } $brood->pids('zygote');
            my $tag = $wire->send(ns => "birth-$try", session => 'b', cmd => 'echo born');
            my $pid = stop_next_child($brood, sub { my ($own) = $_[0] =~ /^Pid:\s+(\d+)/m; is_zygote($_[0]) && !$old{$own} }, sub { -s "$brood->{fs_root}/birth-$try/none" });
            if ($pid && uid_of($pid) eq uid_of($parent)) {
                kill_now($who eq 'companion' ? $pid : $who eq 'parent' ? $parent : $brood->pids('primordial'));
                kill CONT => $pid;
                my $r = $wire->result($tag);
                next if $r->{outcome} == 0 && $who ne 'primordial' && $wire->remove("birth-$try"); # it was caught too late
                my $fine = $who eq 'primordial' ? $r->{outcome} == 0 || $r->{outcome} == 4 : $r->{outcome} == 4 || $r->{outcome} == 8;
                ok($fine, "$who, try $try: who asked is told: $r->{outcome} $r->{text}");
                works("birth-$try", $who);
                $done{$who} = 1;
            } else {
                kill CONT => $pid if $pid;
                $wire->result($tag);
            }
            $wire->remove("birth-$try");
            last if $done{$who};
        }
        ok($done{$who}, "$who: one was caught");
    }
};

subtest 'at random' => sub {
    my (%outcomes, $lost);
    srand 7;
    for my $round (1 .. 60) {
        my @zygotes = $brood->pids(rand() < 0.1 ? 'primordial' : 'zygote');
        my @tags = map { $wire->send(ns => 'ns-' . $round % 3, session => 's' . $_ % 2, cmd => 'x=$((x + 1)); for i in {1..50}; do :; done; echo fine') } 1 .. 4;
        push @tags, $wire->send(ns => 'ns-' . $round % 3, terminal => "t$round", cmd => 'echo fine');
        kill KILL => $zygotes[rand @zygotes] if @zygotes && rand() < 0.7;
        for (@tags) {
            my $r = $wire->result($_);
            $lost++ if !exists $r->{outcome} || ($r->{outcome} == 0 && !$r->{reason} && $r->{stdout} ne "fine\n");
            $outcomes{$r->{outcome} // 'none'}++;
        }
    }
    is($lost, undef, 'every run has an answer, and a right one or an error: ' . join ', ', map { "$_: $outcomes{$_}" } sort keys %outcomes);
    cmp_ok($outcomes{0} // 0, '>', 100, 'most of them are done');
    works('ns-0', 'at the end');
};

# The client of all of these goes away.
$wire->send(ns => 'ns-1', session => 'left', cmd => 'touch left; sleep 60');
$brood->wait_file('left');
$wire->close;
$wire = Brood::Wire->new($brood);
is($wire->run(ns => 'ns-1', session => 'left', cmd => 'echo next')->{stdout}, "next\n", 'what a client left behind is cancelled');
$wire->close;
$brood->stop;
is_clean($brood, 'at the end');
done_testing;
