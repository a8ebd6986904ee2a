# SPDX-License-Identifier: Apache-2.0
# Torture: for start, activation, run, eviction, reload and stop the 1st, 2nd, 3rd ... system call behind SYS() fails,
# in priv and in the engine (a build of MODE=fault). All or nothing: an answer is right or an error, an error comes
# only when something failed, the service goes on or ends cleanly, and no process, cgroup or descriptor is left.
# TORTURE_SECONDS=60: longer for each, so that all calls have their turn.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use POSIX qw(EIO EMFILE ENOMEM);
use Time::HiRes qw(time);

require_layer('root', 'cgroup');
if (!-x Brood::build() . '/brood-supervisor') {
    BAIL_OUT('make MODE=fault first') if $ENV{REQUIRE};
    plan skip_all => 'there is no fault build: make MODE=fault';
}
use constant {RECORD => q(Z16 L4 Z64), SECONDS => $ENV{TORTURE_SECONDS} // 3};
my @errors = (EIO, EMFILE, ENOMEM);
my $dir = Brood::_temp_dir();
my $file = "$dir/fault";
my ($brood, $said) = (undef, q());

sub write_record {
    open my $out, '+<', $file or die $!;
    syswrite $out, pack RECORD, @_;
}

# (did it happen, where)
sub disarm {
    my @now = unpack RECORD, slurp($file);
    write_record('', 0, 0, 0, 0, '');
    return @now[4, 5];
}

sub arm {
    my ($role, $n) = @_;
    write_record($role, $n, $errors[$n % @errors], 0, 0, '');
}

# Two things that must be as they were: descriptors of priv and engine, processes, cgroups.
sub census {
    my %role;
    $role{$_->{role}}++ for grep { $_->{role} ne 'child' } $brood->processes;
    my %fds = map { my $role = $_; map { $role => scalar(() = glob "/proc/$_/fd/*") } $brood->pids($role) } qw(priv engine);
    return join ' ', (map { "$_:$role{$_}" } sort keys %role), (map { "$_-fds:$fds{$_}" } sort keys %fds), 'cgroups:' . $brood->cgroup_dirs;
}

my $calm;

# A service in the state in which each round begins: one namespace active and warm, nothing else.
sub begin {
    if (!$brood || $brood->exited) {
        write_record('', 0, 0, 0, 0, '');
        $brood = Brood->start('namespaces-spares' => 0, 'namespaces-active-max' => 2, 'namespaces-standby-idle-ms' => 3600000,
            'http-threads' => 1, 'namespaces-idle-s' => 3600, env => {BROOD_FAULT => $file}, config => "log:\n  level: info\n", ready => 0);
        return 0 unless $brood->wait_ready(10);
        undef $calm;
    }
    return 0 unless settle();
    return 1 if $calm;
    return $calm = census();
}

# Only `base` is active, and answers.
sub settle {
    return until_true(8, sub {
        return 1 if $brood->exited;
        $brood->pids('primordial') or remove('base'); # the next activation starts another
        $brood->sh(base => 'echo hi')->{stdout} eq "hi\n" or return 0;
        for my $ns (grep { !/^(?:\.|base$)/ } $brood->volumes) { remove($ns) }
        return !grep { !/^(?:\.|base$)/ } $brood->volumes;
    });
}

sub remove {
    my ($ns) = @_;
    return 0 == system Brood::build() . "/brood ns rm $ns --socket $brood->{socket} >/dev/null 2>&1";
}

sub is_clean_after_its_end {
    my @left = ($brood->processes, $brood->cgroup_dirs, grep { -e } $brood->{http}, $brood->{socket});
    $said = join ' ', map { ref ? "$_->{role} $_->{pid}" : $_ } @left, $brood->{status};
    return !@left && !($brood->{status} & 127);
}

my ($fresh, @problems) = (0);
my %operations = (
    activation => sub { my $ns = 'new-' . ++$fresh; return $brood->sh($ns => "echo $ns")->{stdout} eq "$ns\n" },
    run => sub { return $brood->sh(base => 'echo $((6 * 7))')->{stdout} eq "42\n" },
    'large run' => sub {
        my $r = $brood->sh(base => ': ' . 'x' x 60_000 . '; echo large');
        $said = "$r->{http} " . ($r->{error} ? join ' ', %{$r->{error}} : '');
        return $r->{stdout} eq "large\n";
    },
    eviction => sub { my @r = map { $brood->sh("evict-$_" => 'echo hi')->{stdout} eq "hi\n" } 1, 2; return $r[0] && $r[1] },
    removal => sub { $brood->sh('gone' => 'true')->{http} == 200 or return 0; return remove('gone') },
    reload => sub {
        my $was = () = (slurp($brood->{log}) // '') =~ /"event":"reloaded"/g;
        kill HUP => $brood->{pid};
        my $said;
        until_true(2, sub {
            my $log = slurp($brood->{log}) // '';
            return $said = 1 if $was < (() = $log =~ /"event":"reloaded"/g);
            return 1 if $brood->exited;
            return (unpack RECORD, slurp($file))[4] && $log =~ /reload_failed|engine_stuck/;
        });
        return $said;
    },
);

sub problem {
    my ($what, $role, $n, $where) = @_;
    push @problems, "$what: $role call $n at " . ($where || '?');
}

sub torture {
    my ($name, $role) = @_;
    my ($n, $failures, $ends, $all, $until) = (0, 0, 0, 0, time + SECONDS);
    @problems = ();
    while (time < $until) {
        $n++;
        if (!begin()) { problem('does not come back', $role, $n, ''); last }
        arm($role, $n);
        my $worked = $operations{$name}->();
        my ($fired, $where) = disarm();
        $failures++ if !$worked;
        problem("an error without a failure $said", $role, $n, $where) if !$worked && !$fired;
        if ($brood->wait_exit($worked ? 0 : 0.05)) {
            $ends++;
            until_true(5, \&is_clean_after_its_end) or problem('it ended and left something', $role, $n, $where);
            next;
        }
        $all = 1, last if !$fired; # there is no nth call
        if (!settle()) { problem('it does not recover', $role, $n, $where); last }
        next if $brood->exited;
        until_true(5, sub { census() eq $calm }) or problem("left over: $calm -> " . census(), $role, $n, $where), undef $calm;
    }
    is(join("\n", @problems), '', "$name, $role: " . ($all ? "all" : "the first") . " $n calls failed in turn, $failures errors, $ends ends");
    cmp_ok($n, '>', 1, "$name, $role: there was something to fail") unless $name eq 'run' && $role eq 'priv';
}

spew($file, pack RECORD, '', 0, 0, 0, 0, '');
torture($_, 'engine') for sort keys %operations;
torture($_, 'priv') for grep { !/run/ } sort keys %operations;
$brood->stop unless $brood->exited;

# Start and stop, each with a service of its own: works, or ends with an error; and leaves nothing.
for my $case (['start', 'priv'], ['start', 'engine'], ['stop', 'priv'], ['stop', 'engine']) {
    my ($name, $role) = @$case;
    my ($n, $errors, $until) = (0, 0, time + SECONDS);
    @problems = ();
    while (time < $until) {
        $n++;
        $name eq 'start' ? arm($role, $n) : disarm();
        $brood = Brood->start('namespaces-spares' => 1, env => {BROOD_FAULT => $file}, ready => 0);
        my $ready = $brood->wait_ready(10);
        arm($role, $n) if $name eq 'stop';
        kill TERM => $brood->{pid} if $ready && $name eq 'stop';
        my $gone = $name eq 'stop' ? $brood->wait_exit(12) : !$ready;
        my ($fired, $where) = disarm();
        problem($name eq 'stop' ? 'does not stop' : 'neither ready nor ended', $role, $n, $where) unless $name eq 'stop' ? $gone : $ready || $brood->exited;
        $errors++ if $gone && $brood->{status};
        problem('an error without a failure', $role, $n, $where) if $gone && $brood->{status} && !$fired;
        if (!$brood->exited) { kill TERM => $brood->{pid}; $brood->wait_exit(12) or problem('does not end', $role, $n, $where) }
        until_true(5, \&is_clean_after_its_end) or diag($brood->log_tail), problem("left something: $said", $role, $n, $where);
        last if !$fired;
    }
    is(join("\n", @problems), '', "$name, $role: $n calls failed in turn, $errors ended with an error");
}
done_testing;
