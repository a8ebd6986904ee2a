# SPDX-License-Identifier: Apache-2.0
# Brood::Conn - one HTTP/1.1 connection to the frontend, as raw as a test needs it.
#
# Requests are bytes that may be sent in pieces, several ahead of their answers, or never finished;
# answers are read one at a time. Every wait has a deadline, nothing throws on a connection that the
# other side closed: put() says false, get() says undef and {why} says which of the two it was.
#
# With RECORD_ANSWERS=DIR some answers of each kind are written there, as JSON lines of what was asked
# and what came: t/990-openapi-answers.t holds them against the document.
package Brood::Conn;
use strict;
use warnings;
use Errno qw(EAGAIN EINTR EINPROGRESS);
use IO::Socket::INET;
use IO::Socket::UNIX;
use Mojo::JSON qw(decode_json encode_json);
use Time::HiRes qw(time);

# path => Unix socket or port => TCP on 127.0.0.1. undef when nobody listens.
sub open {
    my ($class, %to) = @_;
    my $sock = $to{path}
      ? IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $to{path})
      : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to{port}, Proto => 'tcp');
    return undef unless $sock;
    $sock->blocking(0);
    return bless {sock => $sock, buf => '', why => ''}, $class;
}

# The bytes of one request. body: a string, or a reference that becomes JSON.
sub request {
    my (undef, $method, $path, %opt) = @_;
    my %headers = (Host => 'brood', %{$opt{headers} // {}});
    my $body = $opt{body};
    if (defined $body) {
        $body = encode_json($body) if ref $body;
        $headers{'Content-Type'}   //= 'application/json';
        $headers{'Content-Length'} //= length $body unless $headers{'Transfer-Encoding'};
    }
    my $head = join '', map { "$_: $headers{$_}\r\n" } grep { defined $headers{$_} } sort keys %headers;
    return "$method $path HTTP/1.1\r\n$head\r\n" . ($body // '');
}

# Sends all bytes; false when the peer closed or takes no more for that long.
sub put {
    my ($self, $bytes, $timeout) = @_;
    my $deadline = time + ($timeout // 20);
    my $at = 0;
    $self->_note_asked($bytes) if $ENV{RECORD_ANSWERS};
    local $SIG{PIPE} = 'IGNORE';
    while ($at < length $bytes) {
        my $n = syswrite $self->{sock}, $bytes, length($bytes) - $at, $at;
        if (defined $n) { $at += $n; next }
        next if $! == EINTR;
        return 0 unless $! == EAGAIN && $self->_wait(1, $deadline);
    }
    return 1;
}

# One whole answer: {status, headers (lower-case names), body, json if it is JSON}, or undef.
# An answer with status 100 is skipped. head => 1: it answers a HEAD, no body follows.
sub get {
    my ($self, $timeout, %opt) = @_;
    my $deadline = time + ($timeout // 40);
    my $head;
    until (defined $head) {
        $head = $1 if $self->{buf} =~ s/\A(.*?\r\n)\r\n//s;
        $head = undef if defined $head && $head =~ m{\AHTTP/1\.\d 100 };
        return undef unless defined $head || $self->_more($deadline);
    }
    my ($status, @lines) = split /\r\n/, $head;
    my %res = (status => $status =~ m{\AHTTP/1\.\d (\d{3})} ? $1 : 0, headers => {}, head => $head);
    for (@lines) {
        my ($name, $value) = /\A([^:]+):\s*(.*?)\s*\z/ or next;
        $res{headers}{lc $name} = $value;
    }
    my $body = $opt{head} ? '' : $self->_body(\%res, $deadline);
    return undef unless defined $body;
    $res{body} = $body;
    $res{json} = eval { decode_json($body) } if ($res{headers}{'content-type'} // '') =~ m{\Aapplication/json};
    $self->_record(\%res) if $ENV{RECORD_ANSWERS};
    return \%res;
}

# One whole well-formed request, or its beginning; what else is sent makes the order of answers unsure.
sub _note_asked {
    my ($self, $bytes) = @_;
    if ($bytes =~ m{\A([A-Z]+) (/\S*) HTTP/1\.1\r\n(.*?\r\n)\r\n}s) {
        my ($method, $path, $head, $rest) = ($1, $2, $3, length($bytes) - $+[0]);
        my ($length) = $head =~ /^Content-Length: *(\d+)\r$/mi;
        push @{$self->{asked}}, {method => $method, path => $path};
        $self->{unsure} = 1 if $rest > ($length // 0) && $head !~ /^Transfer-Encoding:/mi;
    } elsif (!@{$self->{asked} // []}) {
        $self->{unsure} = 1;
    }
}

my (%recorded, $record, $recorder);

sub _record {
    my ($self, $res) = @_;
    my $asked = shift @{$self->{asked} // []};
    return if $self->{unsure} || !$asked || $asked->{method} eq 'HEAD' || length $res->{body} > 1 << 18;
    my @said = ref $res->{json} eq 'HASH' ? @{$res->{json}}{qw(code error status reason)} : ();
    my $kind = join ' ', $asked->{method}, $asked->{path} =~ s/\?.*//r =~ s{[^/]{12,}}{*}gr, $res->{status},
      map { ref $_ eq 'HASH' ? $_->{code} // '' : $_ // '' } @said;
    return if $recorded{$kind}++ >= 3;
    if (($recorder // 0) != $$) {
        undef $record;
        CORE::open($record, '>>', "$ENV{RECORD_ANSWERS}/$$.jsonl") or return;
        $recorder = $$;
    }
    my %headers = map { $_ => $res->{headers}{$_} } grep { $_ ne 'date' } keys %{$res->{headers}};
    syswrite $record, encode_json({%$asked, status => $res->{status}, headers => \%headers, test => $0,
        defined $res->{json} ? (json => $res->{json}) : (text => substr $res->{body}, 0, 4096)}) . "\n";
}

# Waits until the peer has closed; bytes that come first are kept in {buf}. False at the timeout.
sub closed {
    my ($self, $timeout) = @_;
    my $deadline = time + $timeout;
    1 while $self->_more($deadline);
    return $self->{why} eq 'closed';
}

sub close {
    my ($self) = @_;
    close delete $self->{sock} if $self->{sock};
}

# Is there something to read (or an end of file) right now?
sub readable {
    my ($self, $timeout) = @_;
    return 1 if length $self->{buf};
    return $self->_wait(0, time + ($timeout // 0));
}

sub _body {
    my ($self, $res, $deadline) = @_;
    my $h = $res->{headers};
    return '' if $res->{status} == 101 || $res->{status} == 204 || $res->{status} == 304;
    if (lc($h->{'transfer-encoding'} // '') eq 'chunked') {
        my $body = '';
        while (1) {
            my $size;
            until (defined $size) { # $1 does not outlive the loop
                $size = hex $1 if $self->{buf} =~ s/\A([0-9a-fA-F]+)[^\r\n]*\r\n//;
                return undef unless defined $size || $self->_more($deadline);
            }
            while (length $self->{buf} < $size + 2) {
                return undef unless $self->_more($deadline);
            }
            $body .= substr $self->{buf}, 0, $size, '';
            substr $self->{buf}, 0, 2, '';
            return $body unless $size;
        }
    }
    if (defined(my $size = $h->{'content-length'})) {
        while (length $self->{buf} < $size) {
            return undef unless $self->_more($deadline);
        }
        return substr $self->{buf}, 0, $size, '';
    }
    1 while $self->_more($deadline);
    return undef unless $self->{why} eq 'closed';
    return substr $self->{buf}, 0, length $self->{buf}, '';
}

sub _more {
    my ($self, $deadline) = @_;
    while (1) {
        my $n = sysread $self->{sock}, $self->{buf}, 1 << 18, length $self->{buf};
        return $n if $n;
        if (defined $n || ($! != EAGAIN && $! != EINTR)) { $self->{why} = 'closed'; return 0 }
        unless ($self->_wait(0, $deadline)) { $self->{why} = 'timeout'; return 0 }
    }
}

sub _wait {
    my ($self, $for_writing, $deadline) = @_;
    while (1) { # looks at least once, also when there is no time left
        my $left = $deadline - time;
        $left = 0 if $left < 0;
        vec(my $set = '', fileno $self->{sock}, 1) = 1;
        my $n = $for_writing ? select undef, $set, undef, $left : select $set, undef, undef, $left;
        return $n > 0 if $n >= 0 || $! != EINTR;
    }
}

1;
