# SPDX-License-Identifier: Apache-2.0
# Brood::Receivers - two network namespaces for tests of webhooks: in one of them the service, in the other one those who are
# told, with addresses that look public, and the only name server that the service knows.
#
#   my $world = Brood::Receivers->new({'a.test' => ['9.1.1.1'], 'rebind.test' => {then => [['9.1.1.1'], ['10.9.9.9']]}});
#   my $brood = Brood->start(wrap => [$world->inside], ...);
#   my @requests = $world->requests;          # what came: {path, headers, body, to, time}
#
# 9.1.1.1 to 9.1.1.9 and 10.9.9.9 answer (t/lib/receiver.py), 9.1.2.0/24 is silent, 127.0.0.1:8080 of the service's side
# is a canary that nobody may reach. Certificates: $world->{ca} has signed those of 443.
package Brood::Receivers;
use strict;
use warnings;
use Brood ();
use File::Temp qw(tempdir);
use Mojo::JSON qw(decode_json encode_json);
use Test::More;

my $drive = Brood::root() . '/t/lib';

sub _run {
    my (@cmd) = @_;
    return 0 == system(@cmd) || BAIL_OUT("@cmd: failed");
}

sub _spawn {
    my (@cmd) = @_;
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        exec @cmd or POSIX::_exit(99);
    }
    return $pid;
}

# Waits until the process is in namespaces of its own.
sub _holder {
    my $pid = _spawn('unshare', '--net', '--mount', '--propagation', 'private', 'sleep', 'infinity');
    my $own = readlink '/proc/self/ns/net';
    Brood::until_true(5, sub { (readlink("/proc/$pid/ns/net") // $own) ne $own && (readlink("/proc/$pid/exe") // '') =~ /sleep|coreutils/ })
      or BAIL_OUT('no network namespace');
    return $pid;
}

sub new {
    my ($class, $zone, %opt) = @_;
    my $dir = tempdir('brood-receivers-XXXXXX', DIR => '/tmp', CLEANUP => 1);
    chmod 0755, $dir;
    my $self = bless {dir => $dir, service => _holder(), others => _holder()}, $class;
    $self->zone($zone);
    $self->_make_certificates if $opt{tls};
    my @others = ('nsenter', '-t', $self->{others}, '-n', '--');
    my @service = $self->inside;
    _run(@service, qw(ip link set lo up));
    _run(@service, qw(ip link add up0 type veth peer name down0 netns), $self->{others});
    _run(@service, qw(ip addr add 9.0.0.1/24 dev up0));
    _run(@service, qw(ip link set up0 up));
    _run(@others, qw(ip link set lo up));
    _run(@others, qw(ip addr add 9.0.0.2/24 dev down0));
    _run(@others, qw(ip link set down0 up));
    _run(@others, qw(ip addr add), "$_/32", qw(dev lo)) for '10.9.9.9', map { "9.1.1.$_" } 1 .. 9;
    _run(@service, qw(ip route add default via 9.0.0.2));
    Brood::spew("$dir/resolv.conf", "nameserver 9.0.0.2\n");
    Brood::spew("$dir/hosts", "127.0.0.1 localhost\n127.0.0.1 hosts.test\n");
    Brood::spew("$dir/nsswitch.conf", "hosts: files dns\n");
    _run(@service, 'mount', '--bind', "$dir/$_", "/etc/$_") for qw(resolv.conf hosts nsswitch.conf);
    _spawn(@others, 'python3', "$drive/receiver.py", $dir);
    $self->{canary} = "$dir/canary";
    mkdir $self->{canary};
    Brood::spew("$self->{canary}/zone.json", '{}');
    _spawn(@service, 'python3', "$drive/receiver.py", $self->{canary}) unless $opt{no_canary};
    for my $d ($dir, $opt{no_canary} ? () : $self->{canary}) {
        Brood::until_true(10, sub { (Brood::slurp("$d/requests") // '') =~ /ready/ }) or BAIL_OUT('no receiver');
    }
    return $self;
}

sub inside {
    my ($self) = @_;
    return ('nsenter', '-t', $self->{service}, '-n', '-m', '--');
}

sub zone {
    my ($self, $zone) = @_;
    Brood::spew("$self->{dir}/zone.new", encode_json($zone));
    rename "$self->{dir}/zone.new", "$self->{dir}/zone.json" or die;
}

sub _openssl {
    my ($self, @args) = @_;
    _run('sh', '-c', 'cd "$0" && exec openssl "$@" 2>/dev/null', $self->{dir}, @args);
}

sub _make_certificates {
    my ($self) = @_;
    my $dir = $self->{dir};
    my @new = qw(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);
    $self->_openssl(@new, qw(-x509 -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem));
    for (['good', 'DNS:a.test,DNS:b.test'], ['wrong', 'DNS:somebody-else.test']) {
        my ($name, $alt) = @$_;
        Brood::spew("$dir/$name.ext", "subjectAltName=$alt\n");
        $self->_openssl(@new, '-subj', "/CN=$name", '-keyout', "$name.key", '-out', "$name.csr");
        $self->_openssl(qw(x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial), '-in', "$name.csr", '-extfile', "$name.ext", '-out', "$name.crt");
    }
    Brood::spew("$dir/pem", Brood::slurp("$dir/good.key"), Brood::slurp("$dir/good.crt"));
    Brood::spew("$dir/wrong.pem", Brood::slurp("$dir/wrong.key"), Brood::slurp("$dir/wrong.crt"));
    $self->{ca} = "$dir/ca.pem";
}

sub _lines {
    my ($dir) = @_;
    return map { eval { decode_json($_) } // () } split /\n/, Brood::slurp("$dir/requests") // '';
}

# What came over HTTP, to those who may be told; at a path that begins so.
sub requests {
    my ($self, $prefix) = @_;
    return grep { defined $_->{path} && (!defined $prefix || index($_->{path}, $prefix) == 0) } _lines($self->{dir});
}

sub questions {
    my ($self, $name) = @_;
    return grep { ($_->{dns} // '') eq $name } _lines($self->{dir});
}

# What came to the service's own loopback or addresses: nothing should.
sub canary {
    my ($self) = @_;
    return grep { defined $_->{path} } _lines($self->{canary});
}

1;
