# SPDX-License-Identifier: Apache-2.0
# A session is a bash that stays: each script of t/sessions/hostile.sh is a row of calls, and each call has exactly the
# stdout, stderr and status that a bash has which evals them one after the other, with files in place of our pipes.
#
# A line `### name` begins a script, a line `#---` its next call. Where such a bash ends, it is begun anew, and the session
# must have ended there, too. Messages may differ in the name of the script, numbers of lines and pids, and in how deep eval is.
# ONLY=regex.
use lib 't/lib';
use Brood;
use Encode qw(decode_utf8);
use MIME::Base64 qw(decode_base64);

my $brood = Brood->start('sessions-per-namespace' => 4);
my $only = $ENV{ONLY} // '';

sub sanitize {
    my ($text) = @_;
    $text =~ s/^\S+: (?:eval: |-c: )?line \d+: /bash: /mg;
    $text =~ s/(?<=here-document at line )\d+|(?<=bash: )\s*\d+(?= Killed)/N/g;
    $text =~ s/^\++/+/mg;
    return $text;
}

# What a bash makes of the calls from `$at` on: [{stdout, stderr, code, ended}, ..], to the one with which it ended.
sub reference {
    my ($at, @calls) = @_;
    my $driver = "cd /work/w\n";
    for my $k ($at .. $#calls) {
        my $quoted = $calls[$k] =~ s/'/'\\''/gr;
        # Without a builtin: a script may have replaced them all.
        $driver .= "eval '$quoted' </dev/null >/work/r/$k.out 2>/work/r/$k.err\n__s=\$? >/work/r/$k.st.\$?\n__s=\$(exit \$__s)\n";
    }
    my $r = $brood->sh(reference => "cat >/tmp/driver; bash /tmp/driver >/dev/null 2>&1; echo \$?", stdin => $driver);
    my @made;
    for my $k ($at .. $#calls) {
        my $base = "$brood->{fs_root}/reference/r/$k";
        my %one = (stdout => slurp("$base.out"), stderr => sanitize(slurp("$base.err")));
        my ($st) = glob "$base.st.*";
        @one{qw(code ended)} = $st ? ($st =~ /(\d+)$/, 0) : ($r->{stdout} + 0, 1);
        $one{code} += 0;
        push @made, \%one;
        last if $one{ended};
    }
    return @made;
}

# The same of a session.
my %number = (KILL => 9, TERM => 15);
sub call {
    my ($name, $cmd) = @_;
    my $r = $brood->sh(tenant => $cmd, session => $name, encoding => 'base64');
    return $r if $r->{http} != 200;
    return {stdout => decode_base64($r->{stdout}), stderr => sanitize(decode_base64($r->{stderr})),
        code => $r->{exit_code} // 128 + ($number{$r->{signal} // ''} // 999), ended => $r->{session_ended} ? 1 : 0,
        started => $r->{session_started} ? 1 : 0};
}

my ($head, @scripts) = split /^### (.*)\n/m, slurp('t/sessions/hostile.sh');
my $count = 0;
while (my ($title, $text) = splice @scripts, 0, 2) {
    next if $title !~ /$only/;
    my @calls = map { s/\n\z//r } split /^#---\n/m, $text;
    $brood->sh($_ => 'cd /work; rm -rf w r; mkdir w r') for qw(reference tenant);
    my (@want, @got);
    while (@want < @calls) {
        push @want, reference(scalar @want, @calls);
    }
    my ($name, $fresh) = ('s' . ++$count, 1);
    for my $cmd (@calls) {
        my $begun = $fresh ? call($name, 'cd /work/w') : undef;
        push @got, call($name, $cmd);
        my $started = delete $got[-1]{started};
        is_deeply([$begun ? $begun->{started} : 1, $started], [1, 0], "$title: a new one when there was none") if $begun || $started;
        $fresh = $got[-1]{ended};
    }
    is_deeply($got[$_], $want[$_], "$title: call " . ($_ + 1)) for 0 .. $#calls;
    $brood->request(DELETE => "/v1/namespaces/tenant/sessions/$name");
}

subtest 'the builtins that an evaluator needs are functions' => sub { # the reference needs them
    my @calls = ('eval() { builtin echo "my eval"; }; builtin() { command echo caught; }; trap() { :; }; printf() { :; }; source() { :; }; .() { :; }',
        q{eval 'echo x'; builtin x; unset -f eval builtin trap printf source .}, q{eval 'echo x'; builtin echo y});
    is(join('|', map { my $r = call(functions => $_); "$r->{stdout}$r->{stderr}$r->{code}" } @calls), "0|caught\ncaught\n0|x\ny\n0", 'none is called by us');
};

cmp_ok($count, '>=', 60, 'scripts') unless $only;
$brood->stop;
done_testing;
