# SPDX-License-Identifier: Apache-2.0
# Brood::Torture - one operation again and again, each time with another system call behind SYS() failing in one role.
#
#   use Brood::Torture;                                   # skips the file where there is no fault build
#   my $t = Brood::Torture->new('namespaces-spares' => 0); # settings of the service that is tortured
#   $t->torture(run => 'engine', sub { $t->says(base => 'echo hi', "hi\n") });
#   $t->torture(run => 'engine', sub { ... }, only => qr/^lib/); # only at these places: the others are another test's
#   $t->torture_start('priv'); $t->torture_stop('engine'); # with a service of its own each time
#   $t->finish;
#
# An operation answers: 1 it was done and right, 0 an honest error, or a text: an answer that is wrong.
#
# All or nothing: an answer is right or an error; an error comes only when something failed; then the next request
# works, or the service has ended cleanly; no process, descriptor, mount, cgroup or device is left.
#
# Which calls: each operation is done three times (`surveys`) in peace to see which places of the source it always comes by, how often. In
# the first pass the first call at each place fails; then, place by place, the second, the third ..., until all have
# or SECONDS (`seconds` of new(), TORTURE_SECONDS) are over. So every place has failed once, however little time there is.
package Brood::Torture;
use strict;
use warnings;
use Brood;
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use POSIX qw(EAGAIN EIO EMFILE ENOMEM EPERM);
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(until_true slurp spew);
use constant {RECORD => q(Z16 L4 Z40 Z40), RECORD_BYTES => 112, PLACE_BYTES => 40, TRACE_MAX => 4096, NEVER => 0xffffffff};
alarm 400; # the first pass takes as long as it takes: 20 to 40 s on a quiet machine
use constant SECONDS => 3;
use constant OWN => qr/^(?:priv|engine|frontend|courier|primordial|netd)$/;
use constant DENIED => 'unshare -n true 2>&1 | grep -c permitted'; # EPERM comes by the zygote's listener
my @errors = (EIO, EMFILE, ENOMEM, EPERM, EAGAIN);

Brood::require_layer('root', 'cgroup');
if (!-x Brood::build() . '/brood-supervisor' || Brood::build() !~ /fault/) {
    BAIL_OUT('make MODE=fault first') if $ENV{REQUIRE};
    plan skip_all => 'there is no fault build: make MODE=fault';
}

sub new {
    my ($class, %settings) = @_;
    my $self = bless {file => Brood::_temp_dir() . '/fault', fresh => 0, reloads => 0, error => 0, said => ''}, $class;
    $self->{policies} = dirname($self->{file}) . '/policy.yaml';
    spew($self->{policies}, $settings{policies} // "policies:\n  default: {memory_mb: 256}\n");
    delete $settings{policies};
    my $seconds = delete $settings{seconds} // SECONDS;
    $self->{seconds} = $ENV{TORTURE_SECONDS} // $seconds;
    $self->{state} = delete $settings{state} // sub { return {} };
    $self->{beside} = {map { $_->{pid} => 1 } Brood::processes({pid => 0})}; # the test's own
    $self->{lies} = delete $settings{lies} // []; # [place, error]: what that error says there is believed, and is not true
    $self->{answers} = delete $settings{answers} // ['echo hi', "hi\n"]; # what `base` is asked between two rounds
    $self->{settings} = {'namespaces-spares' => 0, 'namespaces-active-max' => 2, 'namespaces-standby-idle-ms' => 3600000,
        'http-threads' => 1, 'namespaces-idle-s' => 3600, 'policy-file' => $self->{policies}, %settings};
    spew($self->{file}, pack(RECORD, '', 0, 0, 0, 0, '', ''), "\0" x (TRACE_MAX * PLACE_BYTES));
    chmod 0666, $self->{file};
    return $self;
}

sub brood { return $_[0]->{brood} }

# ---- the file of lib/fault.h --------------------------------------------------------------------

sub write_record {
    my ($self, @fields) = @_;
    open my $out, '+<:raw', $self->{file} or die $!;
    syswrite $out, pack RECORD, @fields;
}

# The nth call, at that place if one is named, will fail.
sub arm {
    my ($self, $role, $n, $place) = @_;
    my $error = $errors[$self->{error}++ % @errors];
    for my $lie (@{$self->{lies}}) { $error = $errors[$self->{error}++ % @errors] if ($place // '') =~ $lie->[0] && $error == $lie->[1] }
    $self->write_record('', 0, 0, 0, 0, '', '');
    $self->write_record($role, $n, $error, 0, 0, '', $place // '');
    return local $! = $error;
}

# (did it happen, where)
sub disarm {
    my ($self) = @_;
    my @now = unpack RECORD, slurp($self->{file});
    $self->write_record('', 0, 0, 0, 0, '', '');
    return @now[4, 5];
}

sub has_fired { return (unpack RECORD, slurp($_[0]->{file}))[4] }

# The places that were passed since the record was armed, in their order.
sub trace {
    my ($self) = @_;
    my $bytes = slurp($self->{file});
    my $count = (unpack RECORD, $bytes)[3];
    $count = TRACE_MAX if $count > TRACE_MAX;
    return map { unpack 'Z*', substr $bytes, RECORD_BYTES + $_ * PLACE_BYTES, PLACE_BYTES } 0 .. $count - 1;
}

# ---- the service --------------------------------------------------------------------------------

# As Brood's cgroup_dirs, but it looks for them in the whole tree once only: that takes as long as all the rest.
sub cgroups {
    my ($self) = @_;
    my $brood = $self->{brood};
    my @stat = stat $brood->{fs_root} or return ();
    if (!$self->{parents}) {
        my %parents = map { m{^(.*)/brood-[^/]+} ? ($1 => 1) : () } $brood->cgroup_dirs;
        $self->{parents} = [sort keys %parents] if %parents;
    }
    my $key = sprintf 'brood-%x-%x', @stat[0, 1];
    return grep { -d } map { glob "$_/$key*/ $_/$key*/*/ $_/$key*/*/*/" } @{$self->{parents} // []};
}

# What must be as it was. Of children there are at most three at rest: standby, reserve and mould; and one of each spare.
sub census {
    my ($self) = @_;
    my $brood = $self->{brood};
    my (%n, %namespaces);
    for my $p ($brood->processes) {
        my $dir = "/proc/$p->{pid}";
        $n{$p->{role} eq 'child' ? 'children' : $p->{role}}++;
        $namespaces{readlink("$dir/ns/$_") // ''}++ for qw(net user pid mnt ipc);
        next unless $p->{role} =~ OWN;
        $n{"$p->{role}-fds"} = () = glob "$dir/fd/*";
        $n{"$p->{role}-mounts"} = () = (slurp("$dir/mountinfo") // '') =~ /\n/g;
    }
    my $most = 3 + $self->{settings}{'namespaces-spares'};
    $n{children} = $most if ($n{children} // 0) <= $most;
    $n{namespaces} = keys %namespaces;
    my %slots;
    for ($self->cgroups) { m{/s(\d+)(?:/|$)} ? $slots{$1}++ : $n{cgroups}++ }
    # A slot that is free keeps its cgroups for the next zygote, or does not: as many as may be used at once, and a few
    # whose zygotes could not be started, are none left over.
    my $set = $self->{settings};
    my $slots = $set->{'namespaces-active-max'} + $set->{'namespaces-spares'} + 3 + ((grep { /per-namespace/ } keys %$set) ? 1 : 0);
    $n{slots} = keys %slots > $slots ? keys %slots : $slots;
    $n{mounts} = () = $brood->mounts;
    return {%n, %{$self->{state}->()}};
}

# One that is the same when it is taken again, 20 ms later.
sub settled_census {
    my ($self) = @_;
    my ($last, $now) = ('', '');
    my $census;
    until_true(2, sub {
        $last = $now;
        $census = $self->census;
        $now = join ' ', map { "$_=$census->{$_}" } sort keys %$census;
        return $now eq $last;
    });
    return $census;
}

# What there is more than in peace. Less may be there, too, where something had not gone yet when that was counted.
sub left_over {
    my ($self) = @_;
    my ($now, $calm) = ($self->census, $self->{calm});
    my @left = map { "$_ $calm->{$_} -> $now->{$_}" } grep { $now->{$_} > ($calm->{$_} //= 0) } sort keys %$now;
    # The frontend makes the next run's pipes behind an answer: there may be less for a moment only.
    $now->{'frontend-fds'} = $calm->{'frontend-fds'} if ($now->{'frontend-fds'} // 0) < ($calm->{'frontend-fds'} // 0);
    $self->{calm} = $now unless @left || $now->{zygote} < 1 + $self->{settings}{'namespaces-spares'}; # a spare is on its way
    return join ', ', @left;
}

# A service in the state in which each round begins: one namespace active and warm, nothing else.
sub begin {
    my ($self) = @_;
    if (!$self->{brood} || $self->{brood}->exited) {
        $self->disarm;
        $self->{brood} = Brood->start(%{$self->{settings}}, env => {BROOD_FAULT => $self->{file}}, ready => 0);
        return 0 unless $self->{brood}->wait_ready(10);
        delete $self->{calm};
    }
    return 0 unless $self->settle;
    my $spares = $self->{settings}{'namespaces-spares'};
    return 0 unless !$spares || until_true(8, sub { $self->{brood}->pids('zygote') == 1 + $spares });
    $self->{calm} //= $self->settled_census;
    return 1;
}

# Only `base` is active, and answers.
sub settle {
    my ($self) = @_;
    my $brood = $self->{brood};
    # Longer than it takes until a policy whose proof failed is tried again (engine_probe.c: 5 s).
    return until_true(16, sub {
        return 1 if $brood->exited;
        $brood->pids('primordial') or $self->remove('base'); # the next activation starts another
        $brood->sh(base => $self->{answers}[0])->{stdout} eq $self->{answers}[1] or return 0;
        for my $ns (grep { !/^(?:\.|base$)/ } $brood->volumes) { $self->remove($ns) }
        return !grep { !/^(?:\.|base$)/ } $brood->volumes;
    });
}

sub remove {
    my ($self, $ns) = @_;
    return 0 == system Brood::build() . "/brood ns rm $ns --socket $self->{brood}{socket} >/dev/null 2>&1";
}

# Of what failed, nothing may crash: how often the log says that somebody did.
sub crashes {
    my ($self) = @_;
    return scalar(() = (slurp($self->{brood}{log}) // '') =~ /killed by signal (?:4|6|7|8|11|31)\b/g);
}

sub is_clean_after_its_end {
    my ($self) = @_;
    my $brood = $self->{brood};
    my @left = ((grep { !$self->{beside}{$_->{pid}} } $brood->processes), $self->cgroups, grep { -e } $brood->{http}, $brood->{socket});
    $self->{said} = join ' ', map { ref ? "$_->{role} $_->{pid}" : $_ } @left, $brood->{status};
    return !@left && !($brood->{status} & 127);
}

# ---- operations ---------------------------------------------------------------------------------

# A run that writes that to stdout, or an error, or stdout that is said to be cut.
sub says {
    my ($self, $ns, $cmd, $stdout, %more) = @_;
    my $r = $self->{brood}->sh($ns => $cmd, timeout => 4, %more); # what is lost is missed soon
    return 1 if $r->{http} == 200 && $r->{stdout} eq $stdout && ($r->{exit_code} // 1) == 0;
    $self->{said} = join ' ', $r->{http}, ref $r->{error} ? "$r->{error}{code}: $r->{error}{message}" : '';
    return 0 if ($r->{http} == 0 || $r->{http} >= 500) || $r->{http} == 200 && $r->{stdout_truncated};
    return sprintf 'http %s exit_code %s signal %s reason %s stdout "%.40s" stderr "%.80s" error %s', map { $_ // 'none' } @$r{qw(http exit_code signal reason stdout stderr)},
      $self->{said};
}

# One request on a connection of its own: {status, headers, body, json}. status 0: it was closed without an answer;
# undef: none came in time, which is always wrong.
sub ask {
    my ($self, $method, $path, %opt) = @_;
    my $timeout = delete $opt{timeout} // 40;
    my $conn = $self->{brood}->connect or return {status => 0};
    my $res = $conn->put(Brood::Conn->request($method, $path, %opt)) ? $conn->get($timeout) : undef;
    return $res || ($conn->{why} eq 'timeout' ? undef : {status => 0});
}

# Is that an honest error: no answer because all ended, or one that says that it could not be done?
sub is_error {
    my ($self, $res) = @_;
    return 0 if !$res || $res->{status} && $res->{status} < 500;
    $self->{said} = "$res->{status} " . substr $res->{body} // '', 0, 200;
    return 1;
}

# A name that no namespace had yet.
sub fresh { return 'new-' . ++$_[0]->{fresh} }

# Policies that were not there before, so that the primordial is another, then SIGHUP; until the log says that it was
# done, or that it was not.
sub reload {
    my ($self, $text) = @_;
    my $brood = $self->{brood};
    my $count = sub { my $log = slurp($brood->{log}) // ''; return map { my $re = $_; scalar(() = $log =~ /"event":"(?:$re)"/g) } @_ };
    my @events = ('reloaded', 'policies', 'reload_failed|engine_stuck|policies_kept');
    my @was = $count->(@events);
    spew($self->{policies}, $text // sprintf "policies:\n  default: {memory_mb: %d}\n", 256 + ++$self->{reloads} % 2);
    $brood->signal('HUP');
    my $done = 0;
    until_true(2, sub {
        my @now = $count->(@events);
        return $done = 1 if $now[0] > $was[0] && $now[1] > $was[1];
        return $brood->exited || $now[2] > $was[2];
    });
    return $done;
}

# All of them: the first that is not right decides.
sub all_of {
    my (@results) = @_;
    my @wrong = grep { $_ !~ /^[01]$/ } @results;
    return $wrong[0] // (grep { !$_ } @results) ? 0 : 1;
}

my %operations = (
    activation => sub { my ($t) = @_; my $ns = $t->fresh; return $t->says($ns => DENIED, "1\n") },
    run => sub { my ($t) = @_; return $t->says(base => 'echo $((6 * 7))', "42\n") },
    'large run' => sub { my ($t) = @_; return $t->says(base => ': ' . 'x' x 60_000 . '; echo large', "large\n") },
    # Several, because what one needs is made beside the one before it.
    'full run' => sub {
        my ($t) = @_;
        my %more = (stdin => "in\n", env => {NAME => 'value'}, cwd => '/tmp', limits => {cpu_ms => 3000});
        return all_of(map { $t->says(base => 'read x; echo $x $NAME $PWD', "in value /tmp\n", %more) } 1 .. 5);
    },
    # With reserve and mould.
    'first runs' => sub { my ($t) = @_; my $ns = $t->fresh; return all_of($t->says($ns => DENIED, "1\n"), map { $t->says($ns => 'echo hi', "hi\n") } 1 .. 5) },
    'leaving run' => sub { my ($t) = @_; return all_of(map { $t->says(base => 'sleep 60 & (setsid sleep 60 &); echo left', "left\n") } 1 .. 2) },
    eviction => sub { my ($t) = @_; return all_of(map { $t->says("evict-$_" => 'echo hi', "hi\n") } 1, 2) },
    removal => sub { my ($t) = @_; return all_of($t->says(gone => 'true', ''), $t->remove('gone') ? 1 : 0) },
    reload => sub { my ($t) = @_; my $ns = $t->fresh; return all_of($t->reload, $t->says($ns => 'echo hi', "hi\n")) },
    connection => sub { my ($t) = @_; delete $t->{brood}{conn}; return $t->says(base => 'echo hi', "hi\n") },
    'large output' => sub { my ($t) = @_; return $t->says(base => 'printf %0200000d 1', '0' x 199999 . '1') },
    'slow output' => sub { my ($t) = @_; return $t->says(base => 'echo a; sleep 0.01; echo b; sleep 0.01; echo c', "a\nb\nc\n") },
    'client that leaves' => sub {
        my ($t) = @_;
        my $conn = $t->{brood}->post(base => 'echo begun > begun; sleep 60');
        my $begun = $conn && $t->{brood}->wait_file('begun', 2);
        unlink $begun if $begun;
        undef $conn; # its run is cancelled, or the next would wait
        return $t->says(base => 'echo next', "next\n");
    },
);

sub operation {
    my ($self, $name) = @_;
    return sub { return $operations{$name}->($self) };
}

# ---- one operation ------------------------------------------------------------------------------

# The rounds of an operation: [place, n], first calls first. And how many calls there are.
sub survey {
    my ($self, $role, $operation, $only, $surveys) = @_;
    my (%times, @places);
    for my $time (1 .. $surveys) {
        my %now;
        $self->begin or return;
        $self->arm($role, NEVER);
        my $r = $operation->();
        my @trace = $self->trace;
        $self->disarm;
        return $r if $r ne '1';
        for my $place (@trace) {
            push @places, $place if $time == 1 && !$now{$place};
            $now{$place}++;
        }
        for (@places) { $times{$_} = $now{$_} // 0 if $time == 1 || ($now{$_} // 0) < $times{$_} }
    }
    @places = grep { $times{$_} && (!$only || $_ =~ $only) } @places;
    my @rounds;
    my ($most) = sort { $b <=> $a } values %times;
    for my $n (1 .. $most // 0) { push @rounds, map { [$_, $n] } grep { $times{$_} >= $n } @places }
    return \@rounds, scalar @places;
}

sub problem {
    my ($self, $what, $role, $round) = @_;
    diag(grep { /"level":"(?:warn|error)"/ } map { "$_\n" } split /\n/, slurp($self->{brood}{log}) // '') if !@{$self->{problems}};
    push @{$self->{problems}}, sprintf '%s: %s, call %d at %s, error %d', $what, $role, $round->[1], $round->[0], $round->[2] // 0;
}

# One round; false: it makes no sense to go on.
sub round {
    my ($self, $role, $round, $operation, $count) = @_;
    if (!$self->begin) { $self->problem('does not come back', $role, $round); return 0 }
    my $brood = $self->{brood};
    $brood->{crashes} = $self->crashes;
    $round->[2] = 0 + $self->arm($role, $round->[1], $round->[0]);
    $self->{said} = '';
    my $r = $operation->();
    my ($fired) = $self->disarm;
    $count->{fired} += $fired;
    $count->{errors}++ if $r ne '1';
    $self->problem('an error without a failure ' . $self->{said}, $role, $round) if $r eq '0' && !$fired;
    $self->problem("a wrong answer ($r)", $role, $round) if $r !~ /^[01]$/;
    $self->problem('a crash', $role, $round) if $brood->{crashes} < $self->crashes;
    if ($brood->wait_exit($r eq '1' ? 0 : 0.05)) {
        $count->{ends}++;
        until_true(5, sub { $self->is_clean_after_its_end }) or $self->problem("it ended and left something: $self->{said}", $role, $round);
        return 1;
    }
    if (!$self->settle) { $self->problem('it does not recover', $role, $round); return 0 }
    return 1 if $brood->exited;
    if ($r eq '0' && !until_true(8, sub { $operation->() eq '1' && $self->settle })) { $self->problem("it does not work afterwards: $self->{said}", $role, $round); return 0 }
    my $left;
    if (!until_true(15, sub { ($left = $self->left_over) eq '' or !$self->settle })) { # settle: what it was may be replaced by then
        $self->problem("left over: $left", $role, $round);
        delete $self->{calm};
    }
    return 1;
}

sub torture {
    my ($self, $name, $role, $operation, %opt) = @_;
    my ($rounds, $places) = $self->survey($role, $operation, $opt{only}, $opt{surveys} // 3);
    return fail("$name, $role: it works in peace") || diag($rounds // $self->{said} // 'it does not start') || diag($self->{brood}->log_tail) if !ref $rounds;
    return is($places, 0, "$name, $role: nothing of it can fail") if $opt{none};
    my ($until, $done, %count) = (time + $self->{seconds}, 0, fired => 0, errors => 0, ends => 0);
    $self->{problems} = [];
    for my $round (@$rounds) {
        last if $round->[1] > 1 && time > $until;
        $done++;
        my $begin = time;
        last unless $self->round($role, $round, $operation, \%count);
        diag(sprintf '%.3f s: %s, call %d at %s, error %d: %s', time - $begin, $role, @$round[1, 0, 2], $self->{said} // '') if $ENV{TORTURE_TELL};
    }
    is(join("\n", @{$self->{problems}}), '', sprintf '%s, %s: %d of %d calls at %d places fail in turn, %d errors, %d ends', $name, $role,
        $count{fired}, scalar @$rounds, $places, $count{errors}, $count{ends});
    # Not all: what is done behind an answer, or now and then, may come later.
    cmp_ok($count{fired}, '>=', 0.8 * $done - 2, "$name, $role: what was to fail did, mostly") if $done;
    return 1;
}

# ---- start and stop -----------------------------------------------------------------------------

# A service of its own for each round: it starts, and stops; `when` says in which of the two a call fails. dir => sub: the
# directory it begins with; after => sub: says what is wrong with it once it has started, again if it had ended, or ''.
sub live {
    my ($self, $role, $when, $n, $place, %opt) = @_;
    my ($fired, @wrong) = 0;
    my $error = $errors[$self->{error} % @errors];
    $when eq 'start' ? $self->arm($role, $n, $place) : $self->disarm;
    my $brood = $self->{brood} = Brood->start(%{$self->{settings}}, 'namespaces-spares' => 1, ($opt{dir} ? (dir => $opt{dir}->()) : ()), env => {BROOD_FAULT => $self->{file}}, ready => 0);
    my $ready = $brood->wait_ready(10);
    push @wrong, 'neither ready nor ended' unless $ready || $brood->exited;
    my @trace = $self->trace if $when eq 'start';
    ($fired) = $self->disarm if $when eq 'start';
    if (!$ready && $opt{after}) {
        push @wrong, "it left something: $self->{said}" unless until_true(5, sub { $self->is_clean_after_its_end });
        $brood->_spawn;
        $ready = $brood->wait_ready(20) or push @wrong, 'it does not start again';
    }
    if ($ready) {
        my $wrong = $opt{after} ? $opt{after}->() : '';
        push @wrong, $wrong if $wrong;
        my $r = $self->says(base => 'echo hi', "hi\n");
        push @wrong, "the first run: $r $self->{said}" if $r ne '1' && !($fired && $r eq '0');
        $self->arm($role, $n, $place) if $when eq 'stop';
        $brood->signal('TERM');
        $brood->wait_exit(12) or push @wrong, 'it does not end';
    }
    if ($when eq 'stop') {
        @trace = $self->trace;
        ($fired) = $self->disarm;
    }
    my $failed = $brood->exited && $brood->{status} ? 1 : 0;
    push @wrong, 'an error without a failure' if $failed && !$fired;
    until_true(5, sub { $self->is_clean_after_its_end }) or push @wrong, "it left something: $self->{said}";
    push @{$self->{problems}}, map { "$_: $role, call $n at $place, error $error" } @wrong;
    remove_tree($brood->{dir}) unless @wrong;
    return ($fired, $failed, @trace);
}

sub torture_life {
    my ($self, $when, $role, %opt) = @_;
    my (%times, @places);
    $self->{brood}->stop if $self->{brood} && !$self->{brood}->exited;
    $self->{problems} = [];
    my @trace;
    for my $time (1 .. 2) {
        my %now;
        (undef, undef, @trace) = $self->live($role, $when, NEVER, '', %opt);
        for (@trace) { push @places, $_ if $time == 1 && !$now{$_}; $now{$_}++ }
        for (@places) { $times{$_} = $now{$_} // 0 if $time == 1 || ($now{$_} // 0) < $times{$_} }
    }
    @places = grep { $times{$_} && (!$opt{only} || $_ =~ $opt{only}) } @places;
    my ($until, $done, $fired, $errors) = (time + $self->{seconds}, 0, 0, 0);
    my ($most) = sort { $b <=> $a } values %times;
    for my $n (1 .. $most // 0) {
        for my $place (grep { $times{$_} >= $n } @places) {
            last if $n > 1 && time > $until;
            my $begin = time;
            my ($f, $e) = $self->live($role, $when, $n, $place, %opt);
            diag(sprintf '%.3f s: %s of %s, call %d at %s', time - $begin, $when, $role, $n, $place) if $ENV{TORTURE_TELL};
            $done++, $fired += $f, $errors += $e;
        }
    }
    is(join("\n", @{$self->{problems}}), '', sprintf '%s, %s: %d of %d calls at %d places fail in turn, %d ended with an error', $when, $role, $fired,
        scalar @trace, scalar @places, $errors);
    return $done && cmp_ok($fired, '>=', ($opt{mostly} // 0.8) * $done, "$when, $role: what was to fail did, mostly");
}

sub finish {
    my ($self, $last) = @_;
    $self->{brood}->stop unless !$self->{brood} || $self->{brood}->exited;
    $last->() if $last;
    return done_testing();
}

1;
