# SPDX-License-Identifier: Apache-2.0
# A client of the engine's socket that wants more companions than there may be, others' companions, or to keep everybody's
# zygotes for itself; and a tenant that wants his sessions to outlive what ends them.
use lib 't/lib';
use Brood;
use Brood::Wire;

use constant {OK => 0, BAD_REQUEST => 1, NOT_FOUND => 6, TOO_MANY => 10};
my $brood = Brood->start('sessions-per-namespace' => 3, 'sessions-max' => 8, 'namespaces-active-max' => 6, 'namespaces-spares' => 1);
my $wire = Brood::Wire->new($brood);

# More than there may be, at once and again and again.
my @tags = map { $wire->send(ns => 'hoard', session => "s$_", cmd => 'echo $BASHPID') } 1 .. 50;
my %outcome;
$outcome{$wire->result($_)->{outcome}}++ for @tags;
is("$outcome{+OK} $outcome{+TOO_MANY}", '3 47', 'fifty sessions at once: three');
is(scalar @{$wire->sessions('hoard')->{entries}}, 3, 'three are there');
for (1 .. 30) { $wire->close_session(hoard => "s$_"); $wire->send(ns => 'hoard', session => 's' . ($_ + 3), cmd => 'true') }
cmp_ok(scalar @{$wire->sessions('hoard')->{entries}}, '<=', 3, 'closing and making them quickly does not give more');
cmp_ok($wire->stats->{sessions}, '<=', 8, '... nor more than there are places');

# Many namespaces with one each: others find a place.
my @many = map { $wire->run(ns => "n$_", session => 'x', cmd => 'true')->{outcome} } 1 .. 8;
cmp_ok(scalar(grep { $_ == OK } @many), '<=', 3, 'half of the places, no more: ' . join ' ', @many);
is($brood->sh("other-$_" => 'echo in')->{stdout}, "in\n", "another namespace has a place: $_") for 1 .. 6;

# Names.
for my $name ('', '.', '..', '...', '-x', 'a' x 64) {
    my $r = length $name ? $wire->run(ns => 'hoard', session => $name, cmd => 'echo $((1+1))') : {outcome => OK, stdout => "2\n"};
    ok($r->{outcome} == TOO_MANY || $r->{stdout} eq "2\n", "a session called '$name'");
    $wire->close_session(hoard => $name) if length $name;
}
for my $bad ('a' x 65, 'a/b', '../x', 'a b', "a\x01", 'hoard/session/s1') {
    my $rogue = Brood::Wire->new($brood);
    ok($rogue->run(ns => 'hoard', session => $bad, cmd => 'true')->{lost}, 'a name that is none ends the connection');
    $rogue->close;
}
# What no client can name: neither as a namespace nor as one's neighbour.
for my $ns ('hoard/session/s1', '.probe-1', 'hoard/') {
    my $rogue = Brood::Wire->new($brood);
    ok($rogue->run(ns => $ns, cmd => 'true')->{lost}, "no namespace is called $ns");
    $rogue->close;
}
is(scalar @{$wire->sessions('hoar')->{entries}}, 0, 'a prefix is another namespace');
is($wire->close_session(alice => 's1')->{outcome}, NOT_FOUND, "another namespace's session is not there");

# To outlive a close, a removal, an end of the namespace. All other sessions go first: they may be all that one client may have.
for my $ns ('hoard', map { "n$_" } 1 .. 8) {
    $wire->close_session($ns => $_->{session}) for @{$wire->sessions($ns)->{entries}};
}
ok(until_true(10, sub { $wire->stats->{sessions} == 0 }), 'nobody has a session any more');
my $stay = 'trap "" TERM HUP INT; (trap "" TERM HUP; setsid sleep 1000 &) & disown; nohup sleep 1000 >/dev/null 2>&1 & touch staying; sleep 1000; sleep 1000';
my $tag = $wire->send(ns => 'n1', session => 'stay', cmd => $stay);
ok($brood->wait_file('staying'), 'somebody means to stay') or diag explain $wire->sessions('n1');
sub sleepers { return grep { (slurp("/proc/$_/cmdline") // '') =~ /^(?:sleep|nohup)\0/ } map { $_->{pid} } $brood->processes }
ok(until_true(5, sub { sleepers() >= 3 }), '... with children');
is($wire->close_session(n1 => 'stay')->{outcome}, OK, 'it is closed');
is($wire->result($tag)->{reason}, 8, 'told');
ok(until_true(5, sub { !sleepers() }), 'and gone with all of them');
is($brood->sh(n1 => 'echo free')->{stdout}, "free\n", 'its namespace is well');

$wire->close;
$brood->stop;
is(join(' ', map { $_->{role} } $brood->processes), '', 'nobody is left');
done_testing;
