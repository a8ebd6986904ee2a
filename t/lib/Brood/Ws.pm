# SPDX-License-Identifier: Apache-2.0
# Brood::Ws - one WebSocket, as raw as a test needs it: frames may be unmasked, cut, too long or nonsense.
#
#   my $t = Brood::Ws->open($brood, '/v1/namespaces/a/terminal?name=t1', headers => {..}, via => 'tcp');
#   $t->{status} 101, $t->{headers}; then frames, or with until()/event() a terminal: {out} all its bytes,
#   {events} what text messages said, {code} how it was closed, {pings} how often it was asked.
# Every wait has a deadline; pings are answered unless {mute} is set.
package Brood::Ws;
use strict;
use warnings;
use Brood::Conn;
use Mojo::JSON qw(decode_json encode_json);
use Time::HiRes qw(time);

use constant {TEXT => 1, BINARY => 2, CLOSE => 8, PING => 9, PONG => 10};

sub handshake {
    my (undef, $path, %headers) = @_;
    return Brood::Conn->request(GET => $path, headers => {Host => 'localhost', Connection => 'Upgrade', Upgrade => 'websocket',
        'Sec-WebSocket-Version' => 13, 'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==', %headers});
}

sub open {
    my ($class, $brood, $path, %opt) = @_;
    my $conn = $brood->connect(via => $opt{via}) or return undef;
    my $self = bless {conn => $conn, out => '', seen => 0, events => [], pings => 0, message => ''}, $class;
    $conn->put($class->handshake($path, %{$opt{headers} // {}}) . ($opt{early} // ''));
    my $res = $conn->get(20) // {status => 0, headers => {}};
    @$self{qw(status headers json)} = @$res{qw(status headers json)};
    return $self;
}

# The bytes of a frame. mask => undef: none; fin, rsv, length: what the head says.
sub frame {
    my (undef, $op, $bytes, %opt) = @_;
    my $fin = $opt{fin} // 1;
    my $len = $opt{length} // length $bytes;
    my $mask = exists $opt{mask} ? $opt{mask} : "\x12\x34\x56\x78";
    my $bit = defined $mask ? 0x80 : 0;
    my $head = pack 'C', ($fin ? 0x80 : 0) | ($opt{rsv} // 0) << 4 | $op;
    $head .= $len < 126 ? pack('C', $bit | $len) : $len < 65536 ? pack('Cn', $bit | 126, $len) : pack('CQ>', $bit | 127, $len);
    return $head . $bytes unless defined $mask;
    return $head . $mask . ($bytes ^ substr($mask x (length($bytes) / 4 + 1), 0, length $bytes));
}

sub send {
    my ($self, $op, $bytes, %opt) = @_;
    return $self->{conn}->put($self->frame($op, $bytes, %opt), $opt{timeout});
}

sub type { my ($self, $bytes) = @_; return $self->send(BINARY, $bytes) }
sub tell { my ($self, $data) = @_; return $self->send(TEXT, ref $data ? encode_json($data) : $data) }

# The next frame: [op, bytes]; undef at the end, or when none comes in time.
sub get {
    my ($self, $timeout) = @_;
    my $conn = $self->{conn};
    my $deadline = time + ($timeout // 10);
    while (1) {
        if (length $conn->{buf} >= 2) {
            my ($first, $len) = unpack 'CC', $conn->{buf};
            my $head = $len == 126 ? 4 : $len == 127 ? 10 : 2;
            if (length $conn->{buf} >= $head) {
                $len = unpack 'x2n', $conn->{buf} if $len == 126;
                $len = unpack 'x2Q>', $conn->{buf} if $len == 127;
                if (length $conn->{buf} >= $head + $len) {
                    substr $conn->{buf}, 0, $head, '';
                    return [$first, substr $conn->{buf}, 0, $len, ''];
                }
            }
        }
        return undef unless $conn->_more($deadline);
    }
}

# Takes one frame into the terminal's state. False: no more, or not in time.
sub step {
    my ($self, $timeout) = @_;
    my $frame = $self->get($timeout) or return 0;
    my ($op, $bytes) = ($frame->[0] & 15, $frame->[1]);
    if ($op == BINARY) { $self->{out} .= $bytes }
    elsif ($op == TEXT) { push @{$self->{events}}, decode_json($bytes) }
    elsif ($op == PING) { $self->{pings}++; $self->send(PONG, $bytes) unless $self->{mute} }
    elsif ($op == PONG) { push @{$self->{pongs}}, $bytes }
    elsif ($op == CLOSE) {
        ($self->{code}, $self->{reason}) = length $bytes ? unpack('na*', $bytes) : (1005, '');
        $self->send(CLOSE, $bytes) unless $self->{closing}++;
    }
    return 1;
}

# Reads until what came since the last match has a match; returns it ($1 or all of it), or undef.
sub until {
    my ($self, $re, $timeout) = @_;
    my $deadline = time + ($timeout // 15);
    while (1) {
        pos($self->{out}) = $self->{seen};
        if ($self->{out} =~ /$re/g) {
            $self->{seen} = pos $self->{out};
            return $1 // $&;
        }
        my $left = $deadline - time;
        return undef if $left <= 0 || !$self->step($left);
    }
}

# Waits for the next event of that name and returns it, or undef.
sub event {
    my ($self, $name, $timeout) = @_;
    my $deadline = time + ($timeout // 15);
    while (1) {
        for my $i (0 .. $#{$self->{events}}) {
            return splice @{$self->{events}}, $i, 1 if $self->{events}[$i]{event} eq $name;
        }
        my $left = $deadline - time;
        return undef if $left <= 0 || !$self->step($left);
    }
}

# Waits for its end; the code of the close frame, 1006 when there was none, undef when it did not end.
sub ended {
    my ($self, $timeout) = @_;
    my $deadline = time + ($timeout // 15);
    while ((my $left = $deadline - time) > 0) {
        next if $self->step($left);
        return $self->{conn}{why} eq 'closed' ? $self->{code} // 1006 : undef;
    }
    return undef;
}

# Says good-bye and waits for the answer.
sub close {
    my ($self, $code) = @_;
    $self->{closing} = 1;
    $self->send(CLOSE, pack 'n', $code // 1000);
    return $self->ended(5);
}

# The connection breaks, without a word.
sub break {
    my ($self) = @_;
    $self->{conn}->close;
}

1;
