# SPDX-License-Identifier: Apache-2.0
# Brood::Wire - a connection to the engine's Unix socket, for what HTTP does not show. Perl has no SCM_RIGHTS, so
# t/lib/wire_lines.py does the talking.
#
#   my $wire = Brood::Wire->new($brood);
#   my $r = $wire->run(kind => 'code', language => 'python', code => 'print(1)');   # {outcome, stages, stdout, ...}
#   my $tag = $wire->send(...); $wire->cancel($tag); $wire->result($tag); $wire->artifacts($tag); $wire->close;
package Brood::Wire;
use strict;
use warnings;
use Brood;
use IPC::Open2;
use Mojo::JSON qw(decode_json encode_json);

sub new {
    my ($class, $brood) = @_;
    my $pid = open2(my $out, my $in, 'python3', Brood::root() . '/t/lib/wire_lines.py', $brood->{socket});
    return bless {pid => $pid, in => $in, out => $out, tag => 0}, $class;
}

sub _ask {
    my ($self, $op, %more) = @_;
    print {$self->{in}} encode_json({op => $op, %more}) . "\n";
    $self->{in}->flush;
    my $line = readline $self->{out};
    return defined $line ? decode_json($line) : {};
}

sub hello { return $_[0]->_ask('hello') }

sub send {
    my ($self, %ask) = @_;
    $self->_ask(send => tag => ++$self->{tag}, %ask);
    return $self->{tag};
}

sub result { return $_[0]->_ask(result => tag => $_[1]) }
sub cancel { return $_[0]->_ask(cancel => tag => $_[1]) }
sub signal { return $_[0]->_ask(signal => tag => $_[1], signal => $_[2]) }
sub artifacts { return $_[0]->_ask(artifacts => tag => $_[1]) }
sub answers { return $_[0]->_ask(answers => tag => $_[1]) }
sub hang_up { return $_[0]->_ask(hang_up => tag => $_[1], what => $_[2] // 'artifacts') }

# Beside runs: {entries => [{session, companion, busy, queued, idle_ms, age_ms}]}; {outcome, text}; {name => value}.
sub sessions { my ($self, $ns, %more) = @_; return $self->_ask(sessions => tag => ++$self->{tag}, ns => $ns, %more) }
sub close_session { my ($self, $ns, $name, %more) = @_; return $self->_ask(close_session => tag => ++$self->{tag}, ns => $ns, session => $name, %more) }
sub remove { my ($self, $ns) = @_; return $self->_ask(remove => tag => ++$self->{tag}, ns => $ns) }
sub stats { my ($self) = @_; return $self->_ask(stats => tag => ++$self->{tag}) }

sub run {
    my ($self, %ask) = @_;
    return $self->result($self->send(%ask));
}

# Something with sh(), as a Brood has it, that runs in companions of the namespace: in a terminal of its own each time.
#   attack($wire->beside, alice => '...');
sub beside { return bless {wire => $_[0], count => 0}, 'Brood::Wire::Beside' }

sub Brood::Wire::Beside::sh {
    my ($self, $ns, $cmd, %more) = @_;
    my $r = $self->{wire}->run(ns => $ns, terminal => 'beside-' . ++$self->{count}, cmd => $cmd, %more);
    return {%$r, http => ($r->{outcome} // 1) == 0 ? 200 : 500, stdout => $r->{stdout} // '', stderr => $r->{stderr} // ''};
}

# The client goes away, as a crash would have it.
sub close {
    my ($self) = @_;
    close $self->{in};
    waitpid $self->{pid}, 0;
}

1;
