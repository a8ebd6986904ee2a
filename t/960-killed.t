# SPDX-License-Identifier: Apache-2.0
# kill -9 of each process in each state of a slot (ARCHITECTURE.md, "States of a slot" and "What survives what"). A
# state is held, the victim is killed, the others go on. Then the request has its honest answer in time and the next
# one works; or, when engine or priv was the victim, the service ends with an error and its next start finds a clean
# house and all files.
use lib 't/lib';
use Brood;
use Brood::Killed;

require_layer('root', 'cgroup');

# The victims of each state and what its request gets: ok, an error's code, or by a signal.
my @states = (
    {name => 'starting', hold => \&hold_starting, start => ['namespaces-spares' => 0], queued => 1,
        victims => {primordial => 'activation_failed'}},
    {name => 'attaching', hold => \&hold_attaching, queued => 1,
        victims => {zygote => 'activation_failed', child => 'ok', primordial => 'ok'}},
    {name => 'assigning', hold => sub { hold_assigning(@_, 1) }, queued => 1,
        victims => {zygote => 'activation_failed', child => 'ok', primordial => 'ok'}},
    {name => 'busy behind its volume', hold => \&hold_assigning,
        victims => {zygote => 'activation_failed', child => 'ok', primordial => 'ok'}},
    {name => 'ready', hold => \&hold_ready,
        victims => {zygote => 'ok', standby => 'ok', all => 'ok', primordial => 'ok'}},
    {name => 'limiting', hold => \&hold_limiting, queued => 1,
        victims => {zygote => 'ok', standby => 'ok', all => 'ok', primordial => 'ok'}},
    {name => 'busy', hold => \&hold_busy,
        victims => {zygote => 'internal', run => 'signal', mould => 'ok', reserve => 'ok', primordial => 'ok'}},
    {name => 'dying', hold => \&hold_dying, queued => 1, victims => {spare => 'ok', primordial => 'ok'}},
    {name => 'dying, its cgroups being removed', hold => \&hold_removing, queued => 1, victims => {remover => 'ok', primordial => 'ok'}},
);

sub kill_in_state {
    my ($brood, $state, $who) = @_;
    my $ns = "$state->{name}-$who" =~ s/[ ,]+/-/gr;
    my $what = "$state->{name}, $who";
    my $held = $state->{hold}->($brood, $ns);
    my @pids = victim($brood, $held, $who);
    ok(!!(@pids && defined $pids[0]), "$what: there is one") or do { go_on($held); return };
    my $lost = $who eq 'zygote' ? stats($brood)->{zygotes_lost_total} : 0;
    kill_now($_) for @pids;
    if ($who =~ /^(?:engine|priv)$/) {
        go_on($held);
        is_over($brood, $what, $held);
        return;
    }
    wait_stat($brood, zygotes_lost_total => $lost + 1) if $who eq 'zygote' && $state->{name} eq 'ready';
    my $keep = go_on($held);
    if ($who eq 'frontend') {
        ok(!$held->{conn} || $held->{conn}->closed(IN_TIME), "$what: its connections end");
        ok($brood->wait_ready(IN_TIME), "$what: it is started again");
        is($brood->sh($ns => "[ -e ran ] && echo ran; echo $ns", timeout => IN_TIME)->{stdout}, "$ns\n", "$what: what nobody waits for never ran") if $state->{queued};
    } else {
        is_answered($brood, $ns, $held, $state->{victims}{$who}, $what);
    }
    is($brood->sh($_ => "echo $_", timeout => IN_TIME)->{stdout}, "$_\n", "$what: the next command of $_ works") for $ns, 'base';
}

for my $state (@states) {
    subtest $state->{name} => sub {
        my $brood = start_one(@{$state->{start} // []});
        $brood->sh(base => 'echo kept > note.txt');
        kill_in_state($brood, $state, $_) for sort(keys %{$state->{victims}}), qw(frontend engine priv);
        is(scalar(grep { ($_->{event} // '') =~ /^bug_/ } $brood->log_lines), 0, 'nothing that cannot happen has happened');
        $brood->stop;
        is_clean($brood, 'at the end');
    };
}

done_testing;
