# SPDX-License-Identifier: Apache-2.0
# Brood::Events - a client of a stream of events, as text/event-stream or application/x-ndjson, on a connection of its own.
#
#   my $s = Brood::Events->open($brood, POST => '/execute', body => {...});       # or ndjson => 1, last => 7, via => 'tcp'
#   $s->{status}, $s->{headers}                                                   # 200, or an answer in one piece: {json}
#   my $e = $s->next(5);       # {id => 1, event => 'stdout', data => {...}, at => time}; undef: the end, or nothing in time
#   my @all = $s->rest(20);    # up to the end; {ended} says that it was one, and not a broken connection
package Brood::Events;
use strict;
use warnings;
use Brood::Conn;
use Mojo::JSON qw(decode_json);
use Time::HiRes qw(time);

sub open {
    my ($class, $brood, $method, $path, %opt) = @_;
    my %headers = (Accept => $opt{ndjson} ? 'application/x-ndjson' : 'text/event-stream', %{$opt{headers} // {}});
    $headers{'Last-Event-ID'} = $opt{last} if defined $opt{last};
    my $conn = $opt{port} ? Brood::Conn->open(port => $opt{port}) : $brood->connect(via => $opt{via}) or return undef;
    my $self = bless {conn => $conn, ndjson => $opt{ndjson}, text => '', headers => {}, ended => 0, beats => 0, status => 0}, $class;
    $conn->put(Brood::Conn->request($method, $path, headers => \%headers, (defined $opt{body} ? (body => $opt{body}) : ())));
    return $self if $opt{later};
    $self->head($opt{timeout} // 20);
    return $self;
}

# Reads the head of the answer, and all of one that is no stream. False: none came in time.
sub head {
    my ($self, $timeout) = @_;
    my $deadline = time + $timeout;
    my $conn = $self->{conn};
    my $head;
    until (defined $head) {
        $head = $1 if $conn->{buf} =~ s/\A(.*?\r\n)\r\n//s;
        last if defined $head;
        return 0 unless $conn->_more($deadline);
    }
    my ($line, @lines) = split /\r\n/, $head;
    $self->{status} = $line =~ m{\AHTTP/1\.\d (\d{3})} ? $1 : 0;
    for (@lines) { $self->{headers}{lc $1} = $2 if /\A([^:]+):\s*(.*?)\s*\z/ }
    return 1 if ($self->{headers}{'transfer-encoding'} // '') eq 'chunked';
    my $body = $conn->_body({status => $self->{status}, headers => $self->{headers}}, $deadline);
    $self->{json} = eval { decode_json($body) } if defined $body;
    $self->{ended} = 1;
    return 1;
}

# More of the body into {text}. False: it ended, or nothing came.
sub _chunk {
    my ($self, $deadline) = @_;
    my $conn = $self->{conn};
    return 0 if $self->{ended};
    my $size;
    until (defined $size) {
        if ($conn->{buf} =~ s/\A([0-9a-fA-F]+)[^\r\n]*\r\n//) { $size = hex $1; last }
        return 0 unless $conn->_more($deadline);
    }
    while (length $conn->{buf} < $size + 2) {
        return 0 unless $conn->_more($deadline) || length $conn->{buf} >= $size + 2;
    }
    $self->{text} .= substr $conn->{buf}, 0, $size, '';
    substr $conn->{buf}, 0, 2, '';
    $self->{ended} = 1 unless $size;
    return $size;
}

sub _parse {
    my ($self) = @_;
    if ($self->{ndjson}) {
        while ($self->{text} =~ s/\A([^\n]*)\n//) {
            my $e = decode_json($1);
            if ($e->{event} eq 'heartbeat') { $self->{beats}++; next }
            return {%$e, at => time};
        }
        return undef;
    }
    while ($self->{text} =~ s/\A((?:[^\n]+\n)*)\n//) {
        my %e;
        for (split /\n/, $1) {
            if (/\A:/) { $self->{beats}++; next }
            my ($name, $value) = /\A(\w+): (.*)\z/ or die "a line that is no field: $_";
            $e{$name} = $value;
        }
        if (defined $e{retry}) { $self->{retry} = $e{retry}; next }
        return {id => $e{id}, event => $e{event}, data => decode_json($e{data}), at => time} if defined $e{data};
    }
    return undef;
}

sub next {
    my ($self, $timeout) = @_;
    my $deadline = time + ($timeout // 20);
    while (1) {
        my $e = $self->_parse;
        return $e if $e;
        return undef unless $self->_chunk($deadline);
    }
}

sub rest {
    my ($self, $timeout) = @_;
    my $deadline = time + ($timeout // 20);
    my @all;
    while (my $e = $self->next($deadline - time)) { push @all, $e }
    return @all;
}

# Waits for a comment (a line) that says that the stream is still there.
sub beat {
    my ($self, $timeout) = @_;
    my $deadline = time + $timeout;
    my $before = $self->{beats};
    while ($self->{beats} == $before) {
        die 'an event came' if $self->_parse;
        next if $self->{beats} > $before;
        return 0 unless $self->_chunk($deadline);
    }
    return 1;
}

sub close { $_[0]{conn}->close }

# What the events of one kind say, put together.
sub text_of {
    my ($kind, @events) = @_;
    return join '', map { $_->{data}{text} } grep { $_->{event} eq $kind } @events;
}

1;
