# SPDX-License-Identifier: Apache-2.0
# A terminal by a real WebSocket client (Mojolicious), as an editor needs it: vim starts, knows its size, is resized, edits,
# quits; tmux and a pager, too.
use lib 't/lib';
use Brood;
use Mojo::IOLoop;
use Mojo::JSON qw(decode_json);
use Mojo::UserAgent;

require_layer('vim');
my $brood = Brood->start(tcp => 1);

# One terminal, driven by what it shows: steps of [what to wait for, what to type or tell, what that shows].
sub drive {
    my ($query, @steps) = @_;
    my $ua = Mojo::UserAgent->new(inactivity_timeout => 60);
    my ($out, $seen, @events, $code) = ('', 0);
    my $timer = Mojo::IOLoop->timer(60 => sub { Mojo::IOLoop->stop });
    $ua->websocket("ws://127.0.0.1:$brood->{port}/v1/namespaces/alice/terminal?$query" => sub {
        my (undef, $tx) = @_;
        unless ($tx->is_websocket) { fail('the handshake'); Mojo::IOLoop->stop; return }
        my $advance = sub {
            while (@steps) {
                my ($re, $do, $what) = @{$steps[0]};
                pos($out) = $seen;
                return unless $out =~ /$re/g;
                $seen = pos $out;
                shift @steps;
                pass($what);
                $tx->send(ref $do ? {json => $do} : {binary => $do}) if defined $do;
            }
        };
        $tx->on(binary => sub { $out .= $_[1]; $advance->() });
        $tx->on(text => sub { push @events, decode_json($_[1]); $advance->() });
        $tx->on(finish => sub { $code = $_[1]; Mojo::IOLoop->stop });
    });
    Mojo::IOLoop->start;
    Mojo::IOLoop->remove($timer);
    is(scalar @steps, 0, 'all steps were taken') or diag("waiting for $steps[0][0]\n", $out =~ s/([^ -~\n])/sprintf '<%02x>', ord $1/ger);
    return (\@events, $code);
}

my ($events, $code) = drive('name=vim&cols=80&rows=24&term=xterm',
    [qr/\$ /, "vim -u NONE -i NONE -n -N -c 'set ruler' file.txt\r", 'a prompt'],
    [qr/"file.txt" \[New\]/, 'ihello from vim', 'vim starts'],
    [qr/vim/, "\e:echo 'size=' . &columns . 'x' . &lines\r", 'shows what is typed'],
    [qr/size=80x24/, {resize => {cols => 120, rows => 40}}, 'knows its size'],
    [qr/\e\[40;/, ":echo 'size=' . &columns . 'x' . &lines\r", 'draws itself anew'],
    [qr/size=120x40/, ":wq\r", 'with the new size'],
    [qr/written.*\$ /s, "stty size; echo \$TERM; cat file.txt\r", 'saves'],
    [qr/40 120\r\nxterm\r\nhello from vim/, "exit\r", 'and quits; the terminal is as it was'],
);
is($events->[0]{event}, 'attached', 'attached');
is_deeply([@{$events->[-1]}{qw(event exit_code)}], ['exit', 0], 'exit');
is($code, 1000, 'closed with 1000');
is($brood->sh(alice => 'cat file.txt')->{stdout}, "hello from vim\n", 'a run reads what was written');

(undef, $code) = drive('name=less',
    [qr/\$ /, "seq 1 1000 | LESS= less\r", 'a prompt'],
    [qr/\n23\r?\n?.*:/s, 'G', 'a pager shows a page'],
    [qr/1000/, 'q', 'its end'],
    [qr/\$ /, "python3 -c 'import sys; print(sys.stdout.isatty(), input(\"na\" + \"me? \"))'\r", 'and quits'],
    [qr/name\? /, "world\r", 'another program asks'],
    [qr/True world.*\$ /s, "\cD", 'and is answered'],
);
is($code, 1000, 'Ctrl-D ends it');

SKIP: {
    skip 'no tmux', 1 unless -x '/usr/bin/tmux';
    (undef, $code) = drive('name=tmux',
        [qr/\$ /, "TMUX_TMPDIR=/tmp tmux -f /dev/null new -s x\r", 'a prompt'],
        [qr/\[x\]/, "echo in\$((40 + 2))side\r", 'tmux starts'],
        [qr/in42side/, "exit\r", 'a shell within'],
        [qr/\[exited\]/, "exit\r", 'it ends'],
    );
    is($code, 1000, 'and so does the terminal');
}
$brood->stop;
done_testing;
