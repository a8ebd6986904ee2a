# SPDX-License-Identifier: Apache-2.0
# A client that opens and closes sessions in a loop is paced: so many starts at once, then so many a second, in one namespace and for
# one key over all of its namespaces. Others' starts come in between. What is asserted is how many there are at most in the time it
# took, however slow the machine is, and the order of answers.
use lib 't/lib';
use Brood;
use Brood::Wire;
use Time::HiRes qw(time);

use constant {PER_S => 8, BURST => 16, KEY_BURST => 64};
require_layer('root');
chomp(my $cpus = qx(getconf _NPROCESSORS_ONLN));
my $brood = Brood->start('sessions-per-namespace' => 64, 'sessions-max' => 512, 'terminals-per-namespace' => 64, 'terminals-max' => 256);
my $wire = Brood::Wire->new($brood);

sub started { return qx(@{[Brood::build()]}/brood stats --socket $brood->{socket}) =~ /activations_total\s+(\d+)/ ? $1 : die }

subtest 'one namespace' => sub {
    is($wire->run(ns => 'loop', cmd => 'echo on')->{stdout}, "on\n", 'a namespace is there');
    my $others = Brood::Wire->new($brood);
    is($others->run(ns => 'other', cmd => 'echo on')->{stdout}, "on\n", 'and another one');
    my ($begin, $good, $n) = (time, 0, 40);
    for my $i (1 .. $n) {
        my $r = $wire->run(ns => 'loop', session => "s$i", cmd => 'exit 3', timeout => 60_000);
        $good++ if ($r->{exit} // $r->{exit_code} // 0) == 3 || $r->{ended};
    }
    my $took = time - $begin;
    is($good, $n, "$n sessions that end at once, one after the other");
    cmp_ok($n, '<=', BURST + PER_S * $took + 1, sprintf 'are no more than may be in %.1f s', $took);

    # Beside a backlog of some four seconds.
    my @tags = map { $wire->send(ns => 'loop', session => "b$_", cmd => 'echo late', timeout => 60_000) } 1 .. 40;
    is($others->run(ns => 'other', session => 'mine', cmd => 'echo soon', timeout => 60_000)->{stdout}, "soon\n", 'another namespace has its session');
    my $before = started();
    is(scalar(grep { $wire->result($_)->{stdout} eq "late\n" } @tags), 40, 'and those that waited have theirs');
    cmp_ok(started() - $before, '>', 0, 'later');
    $wire->run(ns => 'loop', session => 'b1', cmd => 'echo $$') for 1 .. 100;
    is($wire->run(ns => 'loop', session => 'b1', cmd => 'echo on')->{stdout}, "on\n", 'calls of a session that is there are not paced');
};

subtest 'one key' => sub {
    my @ns = map { "key-$_" } 1 .. 9;
    $wire->run(ns => $_, cmd => 'true') for @ns;
    my ($begin, $good, $n) = (time, 0, 0);
    for my $ns (@ns) { # each has its burst: together that is more than the key's
        my @tags = map { $wire->send(ns => $ns, session => "s$_", cmd => 'exit 3', timeout => 60_000) } 1 .. BURST;
        $n += @tags;
        for (@tags) { my $r = $wire->result($_); $good++ if $r->{ended} }
    }
    my $took = time - $begin;
    is($good, $n, "$n sessions in @{[scalar @ns]} namespaces");
    cmp_ok($n, '<=', KEY_BURST + 16 * $cpus * $took + 1, sprintf 'are no more than one key may have in %.1f s', $took);
};

subtest 'waiting' => sub {
    my @tags = map { $wire->send(ns => 'loop', session => "w$_", cmd => 'echo never', timeout => 60_000) } 1 .. 32;
    $wire->cancel($_) for @tags;
    my $cancelled = grep { ($wire->result($_)->{stdout} // '') eq '' } @tags;
    cmp_ok($cancelled, '>', 0, 'a cancel reaches what waits for its turn');
    is($wire->run(ns => 'loop', session => 'after', cmd => 'echo fine', timeout => 60_000)->{stdout}, "fine\n", 'the next one has its own');
    $wire->send(ns => 'loop', session => "x$_", cmd => 'echo never', timeout => 60_000) for 1 .. 32;
};
$brood->stop;
done_testing;
