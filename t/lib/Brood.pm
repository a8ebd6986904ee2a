# SPDX-License-Identifier: Apache-2.0
# Brood - a private instance of the service for one test file.
#
#   use Brood;                                  # Test::More comes along
#   my $brood = Brood->start('runs-queue-max' => 200, tcp => 1);
#   my $r = $brood->sh(alice => 'echo hi');     # {http => 200, stdout => "hi\n", exit_code => 0, ...}
#   my ($status, $json, $headers) = $brood->execute({namespace_id => 'alice', cmd => 'id'});
#   $brood->recycle('alice');                   # the next run takes over the memory of another
#   $brood->stop;                               # SIGTERM; fails unless it exits 0
#
# Everything of an instance lies in one temporary directory: sockets, namespaces, log. Any setting is
# given as `'flag-name' => value`. The test process is a subreaper, so whatever of the service survives
# its supervisor becomes a child of the test: none can hide, and END kills them all.
#
#   B=build/release              which build is tested
#   BROOD_TEST_ZYGOTE=exec       the whole file with that zygote
#   REQUIRE="root cgroup"        what must not be skipped
#   FILE_SECONDS=600             how long a file may take, on an emulated machine
package Brood;
use strict;
use warnings;
use Brood::Conn;
use Carp qw(croak);
use Cwd qw(abs_path);
use Errno qw(EINTR);
use File::Basename qw(basename dirname);
use File::Find ();
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Mojo::JSON qw(decode_json encode_json);
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);

use constant {PR_SET_CHILD_SUBREAPER => 36, SYS_prctl => 157, FILE_SECONDS_MAX => $ENV{FILE_SECONDS} || 170};

my $root = abs_path(dirname(__FILE__) . '/../..');
my $build = abs_path($ENV{B} // "$root/build/release") // '';
my (@instances, @mounts, @dirs);
my $owner = $$;

sub import {
    strict->import;
    warnings->import;
    my $caller = caller;
    Test::More->export_to_level(1, undef);
    no strict 'refs';
    *{"${caller}::$_"} = \&{$_} for qw(require_layer until_true median slurp spew free_port);
    syscall SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0;
    $SIG{PIPE} = 'IGNORE';
    $SIG{ALRM} = sub { die "this test file took longer than ${\FILE_SECONDS_MAX} s\n" };
    alarm FILE_SECONDS_MAX;
}

sub root { return $root }
sub build { return $build }

# ---- what the machine must have -----------------------------------------------------------------

my %layers = (
    root => [sub { $> == 0 }, 'must be root'],
    cgroup => [sub { -e '/sys/fs/cgroup/memory/cgroup.procs' || -e '/sys/fs/cgroup/cgroup.controllers' }, 'no cgroups'],
    landlock => [sub { (slurp('/sys/kernel/security/lsm') // 'landlock') =~ /landlock/ }, 'no landlock'],
);

# Skips the file with the reason, unless REQUIRE names the layer: then it fails.
sub require_layer {
    for my $name (@_) {
        my ($has, $reason) = @{$layers{$name} // [sub { -x "/usr/bin/$name" || -x "/usr/sbin/$name" }, "no $name"]};
        next if $has->();
        BAIL_OUT("$name is required: $reason") if grep { $_ eq $name } split /[\s,]+/, $ENV{REQUIRE} // '';
        plan skip_all => $reason;
    }
}

# ---- start and stop -----------------------------------------------------------------------------

# Starts an instance and waits until /ready says 200. tcp => 1 adds a TCP listener ({port}), config =>
# TEXT a YAML file, dir => an older instance's directory, env => {..}, ready => 0: do not wait,
# wrap => [..]: a program that execs the rest of its arguments.
sub start {
    my ($class, %opt) = @_;
    require_layer('root');
    -x "$build/brood-supervisor" or BAIL_OUT("$build/brood-supervisor is not there: make first");
    my $dir = delete $opt{dir} // _temp_dir();
    my $self = bless {dir => $dir, http => "$dir/http.sock", socket => "$dir/brood.sock", log => "$dir/log",
        fs_root => "$dir/ns", pid => 0}, $class;
    my ($tcp, $config, $env, $ready, $wrap) = delete @opt{qw(tcp config env ready wrap)};
    $self->{port} = $tcp ? free_port() : 0;
    $opt{zygote} //= $ENV{BROOD_TEST_ZYGOTE} if $ENV{BROOD_TEST_ZYGOTE};
    if (defined $config) {
        spew("$dir/brood.yaml", $config);
        $opt{config} = "$dir/brood.yaml";
    }
    my %flags = ('http-port' => $self->{port}, 'http-socket' => $self->{http}, socket => $self->{socket},
        'fs-root' => $self->{fs_root}, 'log-format' => 'json', 'languages-dir' => 'none', %opt);
    $self->{argv} = [@{$wrap // []}, "$build/brood-supervisor", map { ("--$_", $flags{$_}) } grep { defined $flags{$_} } sort keys %flags];
    $self->{env} = $env // {};
    push @instances, $self;
    $self->_spawn;
    return $self if defined $ready && !$ready;
    return $self if $self->wait_ready(20);
    diag("not ready: @{$self->{argv}}\n" . $self->log_tail);
    BAIL_OUT('the service does not start') unless $self->{may_fail};
}

# Starts the same again, in the same directory.
sub restart {
    my ($self) = @_;
    $self->stop if $self->{pid};
    $self->_spawn;
    ok($self->wait_ready(20), 'the service is ready again');
}

sub _spawn {
    my ($self) = @_;
    delete $self->{conn};
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        chdir $self->{dir} or POSIX::_exit(98);
        delete @ENV{grep { /^(?:BROOD_|PORT$|SANDBOX_)/ } keys %ENV};
        @ENV{keys %{$self->{env}}} = values %{$self->{env}};
        open STDIN, '<', '/dev/null';
        open STDERR, '>>', $self->{log} or POSIX::_exit(98);
        open STDOUT, '>&', \*STDERR;
        setpgrp;
        $SIG{PIPE} = 'DEFAULT';
        exec @{$self->{argv}} or POSIX::_exit(99);
    }
    $self->{pid} = $pid;
}

sub wait_ready {
    my ($self, $timeout) = @_;
    my $deadline = time + $timeout;
    while (time < $deadline) {
        return 0 if $self->exited;
        my $conn = Brood::Conn->open(path => $self->{http});
        if ($conn && $conn->put(Brood::Conn->request(GET => '/ready')) && (my $res = $conn->get(2))) {
            return 1 if $res->{status} == 200;
        }
        select undef, undef, undef, 0.02;
    }
    return 0;
}

# Has the supervisor ended? Then {status} is its wait status.
sub exited {
    my ($self) = @_;
    return 1 unless $self->{pid};
    return 0 if waitpid($self->{pid}, WNOHANG) != $self->{pid};
    $self->{status} = $?;
    $self->{pid} = 0;
    return 1;
}

sub wait_exit {
    my ($self, $timeout) = @_;
    return until_true($timeout, sub { $self->exited });
}

# Sends a signal to the supervisor; false when that has ended: nobody is to signal process 0, which is the test and all around it.
sub signal {
    my ($self, $name) = @_;
    return $self->{pid} ? kill $name => $self->{pid} : 0;
}

# SIGTERM, then it must be gone in time with exit status 0. One test.
sub stop {
    my ($self, $timeout) = @_;
    return unless $self->{pid};
    kill TERM => $self->{pid};
    my $gone = $self->wait_exit($timeout // 15);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($gone && $self->{status} == 0, 'the service stops with exit status 0')
      || diag($gone ? sprintf('wait status %#x', $self->{status}) : 'it is still there');
}

# ---- requests -----------------------------------------------------------------------------------

# A new connection: over TCP with via => 'tcp'.
sub connect {
    my ($self, %opt) = @_;
    return Brood::Conn->open(($opt{via} // '') eq 'tcp' ? (port => $self->{port}) : (path => $self->{http}));
}

# One request on this instance's keep-alive connection; undef when there was no answer.
sub request {
    my ($self, $method, $path, %opt) = @_;
    my $bytes = Brood::Conn->request($method, $path, %opt);
    my $key = ($opt{via} // '') eq 'tcp' ? 'conn_tcp' : 'conn';
    delete $self->{$key} if $self->{$key} && $self->{$key}->readable;
    my $conn = $self->{$key} //= $self->connect(%opt) or return undef;
    $conn->put($bytes); # who refuses need not take it all: an answer may be there all the same
    my $res = $conn->get($opt{timeout}, head => $method eq 'HEAD');
    delete $self->{$key} if !$res || lc($res->{headers}{connection} // '') eq 'close';
    return $res;
}

# POST /execute: (status, JSON, headers). The body is a hash or, as a string, raw bytes.
sub execute {
    my ($self, $body, %opt) = @_;
    my $res = $self->request(POST => '/execute', body => $body, %opt) // {status => 0, headers => {}};
    return ($res->{status}, $res->{json}, $res->{headers});
}

# Runs a command; the answer's JSON with the HTTP status as {http}.
sub sh {
    my ($self, $ns, $cmd, %more) = @_;
    my ($status, $json) = $self->execute({namespace_id => $ns, cmd => $cmd, %more});
    return {http => $status, stdout => '', stderr => '', ref $json eq 'HASH' ? %$json : ()};
}

# Sees that the next run of that namespace is cast by a mould in an address space that was used before: a
# mould comes after a few clean runs in a row, and what it casts leads no session.
sub recycle {
    my ($self, $ns) = @_;
    my $casts = 0;
    for (1 .. 200) {
        $casts += $self->sh($ns, 'read -ra s </proc/$$/stat; [ ${s[5]} = $$ ] || echo cast')->{stdout} eq "cast\n";
        return 1 if $casts == 2;
    }
    croak "no run of $ns is cast";
}

# The same, sent but not awaited, on a connection of its own: result() reads the answer.
sub post {
    my ($self, $ns, $cmd, %more) = @_;
    my $via = delete $more{via};
    my $conn = $self->connect(via => $via) or return undef;
    $conn->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => $ns, cmd => $cmd, %more}));
    return $conn;
}

sub result {
    my ($self, $conn, $timeout) = @_;
    my $res = ($conn && $conn->get($timeout)) // {status => 0, headers => {}};
    return {http => $res->{status}, headers => $res->{headers}, stdout => '', stderr => '',
        ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}

# ---- looking from outside -----------------------------------------------------------------------

# Path of the first file of that name below fs_root; undef if there is none.
sub find {
    my ($self, $name) = @_;
    my $found;
    File::Find::find({no_chdir => 1, wanted => sub { $found //= $File::Find::name if basename($_) eq $name }},
        $self->{fs_root});
    return $found;
}

# Waits until a run has made this file.
sub wait_file {
    my ($self, $name, $timeout) = @_;
    my $found;
    until_true($timeout // 10, sub { $found = $self->find($name) });
    return $found;
}

# Names directly below fs_root; volumes: without the directories made ahead.
sub entries {
    my ($self) = @_;
    opendir my $dir, $self->{fs_root} or return ();
    my @names = sort grep { !/^\.\.?$/ } readdir $dir;
    return @names;
}

sub volumes {
    my ($self) = @_;
    return grep { !/^\.blank-/ } $self->entries;
}

# Every living process of the test's tree but the test itself: {pid, ppid, uid, nspid, exe, role}.
# role: priv engine frontend courier primordial netd zygote child other.
sub processes {
    my ($self) = @_;
    my (%all, %kids);
    for my $dir (glob '/proc/[0-9]*') {
        my $text = slurp("$dir/status") // next;
        my %f = $text =~ /^(\w+):[ \t]*(.*)$/mg;
        next if ($f{State} // '') =~ /^[ZX]/;
        my @nspid = split ' ', $f{NSpid} // $f{Pid};
        $all{$f{Pid}} = {pid => $f{Pid}, ppid => $f{PPid}, name => $f{Name}, nspid => \@nspid,
            uid => (split ' ', $f{Uid})[1], exe => readlink("$dir/exe") // '', rss_kb => $f{VmRSS} =~ s/\D//gr || 0}
          if defined $f{VmRSS};
        push @{$kids{$f{PPid}}}, $f{Pid};
    }
    my @todo = $self->{pid} ? $self->{pid} : ();
    push @todo, grep { $_ != $self->{pid} && !_is_of_another($self, $_) } @{$kids{$$} // []};
    my @found;
    while (defined(my $pid = shift @todo)) {
        push @todo, @{$kids{$pid} // []};
        push @found, $all{$pid} if $all{$pid};
    }
    $_->{role} = _role($_) for @found;
    return @found;
}

sub _is_of_another {
    my ($self, $pid) = @_;
    return scalar grep { $_ != $self && $_->{pid} == $pid } @instances;
}

sub _role {
    my ($p) = @_;
    my @nspid = @{$p->{nspid}};
    return $nspid[-1] == 1 ? 'zygote' : 'child' if @nspid > 1;
    return 'frontend' if $p->{exe} =~ /brood-frontend/;
    return 'netd' if $p->{exe} =~ /brood-netd/;
    return 'courier' if $p->{exe} =~ /brood-courier/;
    return $p->{uid} == 0 ? 'priv' : 'engine' if $p->{exe} =~ /brood-supervisor/;
    return 'primordial' if $p->{exe} =~ m{/(?:bash|brood-zygote)(?: \(deleted\))?$};
    return 'other';
}

# Pids of one role.
sub pids {
    my ($self, $role) = @_;
    return map { $_->{pid} } grep { $_->{role} eq $role } $self->processes;
}

# Host pid of the zygote behind a namespace (activates it).
sub zygote_of {
    my ($self, $ns) = @_;
    my $r = $self->sh($ns, 'readlink /proc/self/ns/pid');
    my ($want) = $r->{stdout} =~ /(pid:\[\d+\])/ or return undef;
    my ($pid) = grep { (readlink("/proc/$_/ns/pid") // '') eq $want } $self->pids('zygote');
    return $pid;
}

# Resident memory of each of our own processes, children left out: {"role pid" => KiB}.
sub memory {
    my ($self) = @_;
    return {map { ("$_->{role} $_->{pid}" => $_->{rss_kb}) } grep { $_->{role} ne 'child' } $self->processes};
}

# The cgroup directories our zygotes and children are in: {directory => 1}, mount roots left out.
sub cgroups {
    my ($self) = @_;
    my %mount;
    for (split /\n/, slurp('/proc/self/mountinfo')) {
        my ($type, $options) = / - (cgroup2?) \S+ (\S+)$/ or next;
        my $at = (split)[4];
        $mount{$_} = $at for $type eq 'cgroup2' ? '' : split /,/, $options;
    }
    my %found;
    my %own = map { $_ => 1 } split /\n/, slurp('/proc/self/cgroup') // '';
    for my $p ($self->processes) {
        for my $line (grep { !$own{$_} } split /\n/, slurp("/proc/$p->{pid}/cgroup") // '') {
            my (undef, $controllers, $path) = split /:/, $line, 3;
            next if $path eq '/';
            my ($at) = grep { defined } map { $mount{$_} } $controllers eq '' ? '' : split /,/, $controllers;
            $found{"$at$path"} = 1 if defined $at;
        }
    }
    return \%found;
}

# Every cgroup directory that is named after this instance's fs_root, used or not.
sub cgroup_dirs {
    my ($self) = @_;
    my @stat = stat $self->{fs_root} or return ();
    my $key = sprintf 'brood-%x-%x', @stat[0, 1];
    my @found;
    no warnings 'File::Find'; # others come and go
    for my $mount (map { (split)[4] } grep { / - cgroup2? / } split /\n/, slurp('/proc/self/mountinfo')) {
        File::Find::find({no_chdir => 1, wanted => sub { push @found, $File::Find::name if -d && /\Q$key/ }}, $mount);
    }
    return @found;
}

# Those without the ones that are kept for zygotes to come: of a slot, and nobody lives there.
sub cgroups_in_use {
    my ($self) = @_;
    return grep { !m{/s\d+$} || (slurp("$_/cgroup.procs") // '') =~ /\d/ } $self->cgroup_dirs;
}

# The mounts that can be seen from here, without those of other tests and benchmarks that run at the same time.
sub mounts {
    my ($self) = @_;
    my $own = ref $self ? $self->{dir} : 'none';
    return grep { !m{ /tmp/brood-\S+ } || m{ \Q$own\E/} } split /\n/, slurp('/proc/self/mountinfo');
}

# prlimit(1) on one of our processes, as that process's own user (we may lack CAP_SYS_RESOURCE).
sub prlimit {
    my ($self, $pid, $limit) = @_;
    my $status = slurp("/proc/$pid/status") // return 0;
    my ($uid) = $status =~ /^Uid:\s+(\d+)/m;
    my ($gid) = $status =~ /^Gid:\s+(\d+)/m;
    return 0 == system 'setpriv', '--reuid', $uid, '--regid', $gid, '--clear-groups', 'prlimit', '--pid', $pid, $limit;
}

# ---- the log ------------------------------------------------------------------------------------

# The log's lines as hashes (lines that are no JSON: {text => line}).
sub log_lines {
    my ($self) = @_;
    return map { eval { decode_json($_) } // {text => $_} } split /\n/, slurp($self->{log}) // '';
}

sub log_tail {
    my ($self) = @_;
    my @lines = split /\n/, slurp($self->{log}) // '';
    @lines = @lines[-40 .. -1] if @lines > 40;
    return join "\n", '--- log of ' . $self->{dir}, @lines, '---';
}

# Waits for a line of the log that matches.
sub wait_log {
    my ($self, $re, $timeout) = @_;
    return until_true($timeout // 5, sub { (slurp($self->{log}) // '') =~ $re });
}

# ---- small helpers ------------------------------------------------------------------------------

# Waits until the code returns something true, and returns it; false at the timeout.
sub until_true {
    my ($timeout, $code) = @_;
    my $deadline = time + $timeout;
    while (1) {
        my $value = $code->();
        return $value if $value || time >= $deadline;
        select undef, undef, undef, 0.02;
    }
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    return $sorted[$#sorted / 2];
}

sub slurp {
    my ($path) = @_;
    open my $in, '<:raw', $path or return undef;
    local $/;
    return scalar <$in>;
}

sub spew {
    my ($path, @text) = @_;
    open my $out, '>:raw', $path or die "$path: $!";
    print {$out} @text;
    close $out or die "$path: $!";
}

sub free_port {
    my $sock = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no port: $@";
    return $sock->sockport;
}

# A file system of its own, unmounted at the end of the test.
sub mount_tmpfs {
    my (undef, $dir, $options) = @_;
    make_path($dir);
    return 0 if system 'mount', '-t', 'tmpfs', '-o', $options, 'brood-test', $dir;
    push @mounts, $dir;
    return 1;
}

sub _temp_dir {
    my $dir = tempdir('brood-test-XXXXXXXX', DIR => '/tmp');
    push @dirs, $dir;
    chmod 0755, $dir;
    return $dir;
}

# Kills everything that descends from this test.
sub kill_all {
    for (1 .. 50) {
        my %kids;
        for my $stat (map { slurp("$_/stat") // () } glob '/proc/[0-9]*') {
            my ($pid, $ppid) = $stat =~ /\A(\d+) \(.*\) \S (\d+)/s or next;
            push @{$kids{$ppid}}, $pid;
        }
        my @todo = @{$kids{$$} // []};
        return unless @todo;
        for (my $i = 0; $i < @todo; $i++) { push @todo, @{$kids{$todo[$i]} // []} }
        kill KILL => @todo;
        1 while waitpid(-1, WNOHANG) > 0;
        select undef, undef, undef, 0.02;
    }
}

END {
    if ($$ == $owner) {
        my $status = $?;
        alarm 0;
        unless (Test::More->builder->is_passing) { diag($_->log_tail) for @instances }
        kill_all();
        system 'umount', '-l', $_ for @mounts;
        # Of a service whose priv was killed they stay until the next start, which there will not be.
        for my $brood (grep { -d ($_->{fs_root} // '') } @instances) { rmdir for reverse $brood->cgroup_dirs }
        remove_tree($_, {safe => 0}) for grep { !$ENV{BROOD_TEST_KEEP} } @dirs;
        $? = $status;
    }
}

1;
