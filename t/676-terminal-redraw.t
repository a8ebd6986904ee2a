# SPDX-License-Identifier: Apache-2.0
# Who comes back to a terminal of the same size sees what is on it, not only the last bytes: its program is made to paint again. Real
# programs, each of which tells a change of size in its own way; and the size is in the end what it was.
use lib 't/lib';
use Brood;
use Brood::Ws;

require_layer(qw(vim less python3));
my $brood = Brood->start;
my $path = '/v1/namespaces/alice/terminal';

sub enter {
    my ($query) = @_;
    my $t = Brood::Ws->open($brood, "$path?$query");
    my $e = $t->event('attached');
    return ($t, $e ? $e->{replayed} : undef);
}

my %program = (
    vim => "vim -u NONE -i NONE -n -N text\r",
    less => "LESS= less text\r",
    curses => q{python3 -c 'import curses
def main(s):
    s.addstr(0, 0, "NEEDLE"); s.refresh()
    while (k := s.getch()) != 113:
        s.clear(); s.addstr(0, 0, "NEEDLE" if k == curses.KEY_RESIZE else "......"); s.refresh()
curses.wrapper(main)'} . "\r",
);
for my $name (sort keys %program) {
    subtest $name => sub {
        my ($t) = enter("name=$name&cols=80&rows=24&term=xterm");
        $t->type("echo NEEDLE >text; for i in {1..200}; do echo line \$i; done >>text; echo RE''ADY\r");
        $t->until(qr/READY/);
        $t->type($program{$name});
        ok($t->until(qr/\e\[\?1049h.*NEEDLE/s, 30), 'it paints');
        for my $query ("name=$name", "name=$name&cols=80&rows=24") {
            $t->close;
            (my $u, my $replayed) = enter($query);
            ok(defined $replayed, "somebody comes back: $query");
            # Behind what was kept.
            $u->step(20) while length $u->{out} < $replayed;
            $u->{seen} = $replayed;
            ok($u->until(qr/NEEDLE/, 30), 'and it is painted again');
            $t = $u;
        }
        $t->type($name eq 'vim' ? ":q!\r" : 'q');
        $t->until(qr/\$ /, 30);
        $t->type("until [ \"\$(stty size)\" = '24 80' ]; do sleep 0.1; done; echo SI''ZE\r");
        ok($t->until(qr/SIZE/, 30), 'the size is what it was');
        $t->type("exit\r");
        ok($t->event('exit'), 'it ends');
    };
}

subtest 'sizes' => sub {
    my ($one) = enter('name=one&cols=10&rows=1');
    $one->type("echo RE''ADY\r");
    $one->until(qr/READY/);
    $one->close;
    ($one) = enter('name=one');
    $one->type("until [ \"\$(stty size)\" = '1 10' ]; do sleep 0.1; done; echo O''NE\r");
    ok($one->until(qr/ONE/, 30), 'of one row, too');
};
$brood->stop;
done_testing;
