# SPDX-License-Identifier: Apache-2.0
# Nothing random repeats: every run is a fork of the same bash, and every zygote a clone of the same
# primordial, so each seed must be made anew in the child.
use lib 't/lib';
use Brood;

use constant {RUNS => 200, NAMESPACES => 4};

my $brood = Brood->start;

# 2 x 15 bits may coincide by chance among 200 runs (one pair in 2^30: chance 2e-5 for RANDOM).
my $cmd = <<'EOS';
echo RANDOM $RANDOM-$RANDOM
echo subshell $(echo $RANDOM-$RANDOM)
echo SRANDOM $SRANDOM-$SRANDOM
f=$(mktemp); echo mktemp ${f##*/}; rm "$f"
EOS
my %seen;
for my $i (1 .. RUNS) {
    my $ns = 'r' . $i % NAMESPACES;
    my $r = $brood->sh($ns => $cmd);
    $seen{$1}{$2}++ while $r->{stdout} =~ /^(\w+) (\S+)$/mg;
}
is(scalar keys %{$seen{$_}}, RUNS, "$_: " . RUNS . ' values in as many runs of ' . NAMESPACES . ' namespaces')
  for qw(RANDOM subshell SRANDOM mktemp);

# An interpreter is exec'ed, so fewer will do.
my %py;
for my $i (1 .. 30) {
    my $r = $brood->sh('r' . $i % NAMESPACES, 'python3 -c "import random, uuid; print(random.random(), uuid.uuid4(), uuid.uuid1(), hash(\'a\'))"');
    my @values = split ' ', $r->{stdout};
    $py{$_}{$values[$_]}++ for 0 .. $#values;
}
my @names = qw(random uuid4 uuid1 hash);
is(scalar keys %{$py{$_} // {}}, 30, "Python's $names[$_]: 30 values in 30 runs") for 0 .. $#names;

# The first command of a namespace never seen is a fork of a clone of the primordial.
my %first;
for my $i (1 .. 20) {
    my $r = $brood->sh("first$i" => 'echo $RANDOM-$RANDOM-$SRANDOM; [ "$RANDOM$RANDOM" = "$RANDOM$RANDOM" ]');
    $first{$r->{stdout}}++;
    is($r->{exit_code}, 1, 'and the next ones differ') if $i == 1;
}
is(scalar keys %first, 20, 'first runs of 20 namespaces: 20 values');

# Two children of one shell do not share their sequence either, as in any bash.
my $r = $brood->sh(two => 'for i in 1 2 3 4 5 6 7 8; do (echo $RANDOM-$RANDOM) & done; wait');
my %sub = map { $_ => 1 } split ' ', $r->{stdout};
is(scalar keys %sub, 8, 'subshells differ');
is($brood->sh(two => 'RANDOM=7; echo $RANDOM $RANDOM')->{stdout}, $brood->sh(one => 'RANDOM=7; echo $RANDOM $RANDOM')->{stdout},
    'but a seed that the command sets gives the same sequence');

$brood->stop;
done_testing;
