# SPDX-License-Identifier: Apache-2.0
# A companion has the policy of its namespace: what that says holds in it, a run that needs another box gets one and ends what
# was beside the old, a reload reaches a session at its next call and a run at its end.
use lib 't/lib';
use Brood;
use Brood::Wire;
use File::Temp qw(tempdir);

use constant {OK => 0, BAD_REQUEST => 1, ACTIVATION_FAILED => 4, INTERNAL => 8};
require_layer('root', 'cgroup');
my $dir = tempdir(CLEANUP => 1);
sub policies {
    my ($files) = @_;
    return <<"YAML";
policies:
  default: {memory_mb: 128, tmp_mb: 16, nofile: $files}
  tight: {nofile: 64, memory_mb: 64, tmp_mb: 16}
  other: {nofile: 99, memory_mb: 128, tmp_mb: 16}
namespaces:
  - {match: "tight-*", policy: tight}
  - {match: "*", policy: default, may_ask: [other]}
YAML
}
spew("$dir/policy.yaml", policies(200));
my $brood = Brood->start('policy-file' => "$dir/policy.yaml");
my $wire = Brood::Wire->new($brood);
sub in_session { my ($ns, $name, $cmd, %more) = @_; return $wire->run(ns => $ns, session => $name, cmd => $cmd, %more) }

is(in_session(alice => s => 'ulimit -n')->{stdout}, "200\n", 'a session has the policy of its namespace');
is(in_session('tight-1' => s => 'ulimit -n')->{stdout}, "64\n", '... whichever that is');
is(in_session('tight-1' => s => 'perl -e \'$x = "x" x (50 << 20); print 1\'; echo')->{stdout}, "\n", '... with its memory');
is(in_session('tight-1' => s => 'true', policy => 'other')->{outcome}, BAD_REQUEST, 'not one that it may not ask for');
is(in_session('tight-1' => s => 'echo on')->{stdout}, "on\n", '... which it survives');

# Another box beside: the namespace's zygote is one box, and so is what is beside it.
my $term = $wire->send(ns => 'alice', terminal => 't', cmd => 'touch open; sleep 60');
ok($brood->wait_file('open'), 'a terminal is open');
is($brood->sh(alice => 'ulimit -n', policy => 'other')->{stdout}, "99\n", 'a run asks for another policy');
my $r = $wire->result($term);
is("$r->{outcome} $r->{ended}", INTERNAL . ' 1', '... which ends the terminal');
like($r->{text}, qr/ended with the zygote of its namespace/, "... and it is told: $r->{text}");
is(in_session(alice => s => 'ulimit -n; echo $x', policy => 'other')->{stdout}, "99\n\n", 'a session of that policy');
$r = in_session(alice => s => 'ulimit -n');
ok($r->{outcome} == ACTIVATION_FAILED && $r->{ended}, 'a session has one policy: a call with another ends it') or diag($r->{outcome}, $r->{stdout});
like($r->{text}, qr/policy has changed/, "... and says so: $r->{text}");
is(in_session(alice => s => 'ulimit -n')->{stdout}, "200\n", 'the next call makes another');
is(in_session(alice => s => 'ulimit -n')->{new}, 0, '... that stays');

# A reload.
sub reload_to {
    my ($text) = @_;
    my $count = () = (slurp($brood->{log}) // '') =~ /"event":"policy_proven"/g;
    spew("$dir/policy.yaml", $text);
    $brood->signal('HUP');
    return until_true(10, sub { (() = slurp($brood->{log}) =~ /"event":"policy_proven"/g) > $count });
}
$term = $wire->send(ns => 'alice', terminal => 't', cmd => 'touch again; while [ ! -e reloaded ]; do sleep 0.02; done; ulimit -n');
ok($brood->wait_file('again'), 'a terminal is open');
is(in_session('tight-1' => s => 'echo here')->{new}, 0, 'and a session of a policy that will stay');
ok(reload_to(policies(150)), 'a reload changes the box of the default policy');
spew("$brood->{fs_root}/alice/reloaded");
$r = $wire->result($term);
is("$r->{outcome} $r->{stdout}", "0 200\n", 'what was on keeps what it began with');
$r = in_session(alice => s => 'ulimit -n');
is("$r->{outcome} $r->{ended}", ACTIVATION_FAILED . ' 1', 'a session ends at its next call');
is(in_session(alice => s => 'ulimit -n')->{stdout}, "150\n", '... and the one after has what holds now');
is($brood->sh(alice => 'ulimit -n')->{stdout}, "150\n", 'as runs have');
is(in_session('tight-1' => s => 'echo here')->{new}, 0, 'the other session is as it was');

# Both wait for a zygote that the namespace does not have.
my @tags = map { $wire->send(ns => 'tight-2', session => $_, cmd => 'ulimit -n', timeout => 5000) } qw(a b);
push @tags, $wire->send(ns => 'tight-2', cmd => 'ulimit -n');
is($wire->result($_)->{stdout}, "64\n", 'all get what they need') for @tags;

# Cancelled before it began.
my $tag = $wire->send(ns => 'cold', session => 's', cmd => 'echo never');
$wire->cancel($tag);
$r = $wire->result($tag);
ok($r->{outcome} == OK, 'a cancel while its zygotes are started: ' . ($r->{reason} == 8 ? 'it did not begin' : 'too late'));
is(in_session(cold => s => 'echo fine')->{stdout}, "fine\n", 'the next one works');

$wire->close;
$brood->stop;
is(join(' ', map { $_->{role} } $brood->processes), '', 'nobody is left');
done_testing;
