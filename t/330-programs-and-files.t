# SPDX-License-Identifier: Apache-2.0
# What a zygote's child does beside evaluating a command, through the engine's socket: arguments, placed files, outputs, fresh homes,
# work on files. t/unit/files has the operations themselves, files_hostile their attackers; here they are in a namespace's box.
use lib 't/lib';
use Brood;
use IPC::Open2;
use Mojo::JSON qw(decode_json encode_json);

require_layer('root', 'cgroup', 'python3');
my ($OK, $BAD) = (0, 1);
my ($COMMAND, $CODE, $FILES) = (0, 1, 2);
my ($STAT, $GET, $PUT, $LIST, $DELETE, $MKDIR, $COLLECT) = 1 .. 7;
my $RECURSIVE = 1;

sub suite {
    my ($brood, $kind) = @_;
    my $wire = sub {
        my $pid = open2(my $out, my $in, 'python3', Brood::root() . '/t/lib/wire.py', $brood->{socket});
        print $in encode_json([map { {ns => 'a', %$_} } @_]);
        close $in;
        my $text = do { local $/; <$out> };
        waitpid $pid, 0;
        return @{decode_json($text || '[]')};
    };
    my $one = sub { return ($wire->({@_}))[0] };
    my $files = sub { my $got = $one->(kind => $FILES, files => {@_}); return $got->{answers} // [] };

    # ---- arguments ----
    my @args = ('one', '', "t w\no", '-n', '$HOME', map { "a$_" } 6 .. 64);
    my $got = $one->(cmd => 'printf "%s," "$0" "$#" "$1" "$2" "$3" "$4" "$5" "${64}"', args => \@args);
    is($got->{stdout}, "bash,64,one,,t w\no,-n,\$HOME,a64,", "$kind: arguments are \$1 to \$64, \$0 stays");
    is($one->(cmd => 'echo $#')->{stdout}, "0\n", "$kind: the next run has none");
    is($one->(cmd => 'shift; echo $1 $#; set --; echo $#', args => ['a', 'b'])->{stdout}, "b 1\n0\n", "$kind: shift and set");
    is($one->(cmd => 'tr "\0" , </proc/$$/cmdline', args => ['x', 'y'])->{stdout},
        'bash,-c,tr "\0" , </proc/$$/cmdline,bash,x,y,', "$kind: its command line shows them");
    ok(!$one->(cmd => 'echo no', args => [map { "a$_" } 1 .. 65])->{exited}, "$kind: 65 are too many");

    # ---- placing ----
    my @placed = (['main.py', 'print(1)'], ['data/x/y', ''], ['data/n', "b\xff\x01"]);
    $got = $one->(cmd => 'cat main.py; stat -c "%a %u %s %F" data/x/y data/x; od -An -tx1 data/n; for i in 3 4 5 6; do [ -e /proc/$$/fd/$i ] && echo $i; done', places => \@placed);
    is($got->{stdout}, "print(1)644 1000 0 regular empty file\n755 1000 " . ($got->{stdout} =~ /755 1000 (\d+)/)[0] . " directory\n 62 ff 01\n",
        "$kind: files are placed, and only three descriptors are left");
    is($one->(cmd => 'cat f; pwd', cwd => 'deep/er', places => [['deep/er/f', 'in it']])->{stdout}, "in it/work/deep/er\n",
        "$kind: before the working directory is entered");
    for ([[['a/../../x', 'x']], '..'], [[['/etc/x', 'x']], 'an absolute path'], [[['', 'x']], 'no name']) {
        my ($places, $what) = @$_;
        my ($r) = $wire->({cmd => 'echo ran', places => $places});
        ok(!$r->{exited} && $r->{stdout} eq '', "$kind: $what is refused");
    }
    for my $fd (qw(pipe open zero dir socket)) {
        my $r = $one->(cmd => 'echo ran', places => [['x', {fd => $fd}]]);
        ok($r->{outcome} != $OK && $r->{stdout} eq '', "$kind: a descriptor of kind $fd is not placed: $r->{text}");
    }
    $one->(cmd => 'ln -s /tmp out; ln -s /etc/passwd p; mkdir d; mkfifo fifo');
    ok($one->(cmd => 'echo ran', places => [['out/x', 'x']])->{stdout} eq '', "$kind: not through a link of the tenant's");
    ok($one->(cmd => 'echo ran', places => [['d', 'x']])->{stdout} eq '', "$kind: nor over a directory");
    is($one->(cmd => 'cat p fifo; ls /tmp', places => [['p', 'mine'], ['fifo', 'too']])->{stdout}, 'minetoo', "$kind: a link and a FIFO are replaced");

    # ---- outputs ----
    my @results = $wire->({cmd => 'ls -A outputs; stat -c %a outputs', work => [10, 1000]},
        {cmd => 'echo hi >outputs/b; mkdir -p outputs/s/t; echo deep >outputs/s/t/a; ln -s /etc/passwd outputs/l; mkfifo outputs/f; truncate -s 500M outputs/huge', work => [10, 1000]},
        {cmd => 'ls -A outputs | wc -l; rm -r outputs', work => [10, 1000]},
        {cmd => 'rmdir outputs; ln -s /etc outputs', work => [10, 1000]},
        {cmd => 'rm outputs 2>/dev/null; rmdir outputs; mkfifo outputs', work => [10, 1000]},
        {cmd => 'echo x >outputs/x; chmod 0 outputs /work', work => [10, 1000]},
        {cmd => 'echo never'});
    is("$results[0]{stdout}|$results[0]{collecting}", "755\n|0", "$kind: outputs is there, empty; then nothing is collected");
    is(join(',', map { "$_->{name}=" . ($_->{content} // '') } grep { !$_->{last} } @{$results[1]{artifacts}}), "b=hi\n,s/t/a=deep\n", "$kind: artifacts");
    is($results[1]{artifacts}[-1]{dropped}, 1, "$kind: what is too large is counted");
    is("$results[2]{stdout}|$results[2]{collecting}", "0\n|0", "$kind: they are gone before the next run; no outputs at the end is fine");
    is(join(',', map { $_->{last} ? () : $_->{name} } @{$results[3]{artifacts} // []}), '', "$kind: a link in its place leads nowhere");
    is(join(',', map { $_->{last} ? () : $_->{name} } @{$results[4]{artifacts} // []}), '', "$kind: nor does a FIFO hold anything up");
    ok(!grep({ $_->{content} } @{$results[5]{artifacts} // []}), "$kind: a home that its tenant shut: nothing comes out");
    is($results[6]{stdout}, "never\n", "$kind: and commands still run");
    is($one->(cmd => 'chmod 700 /work; chmod 755 outputs; echo $?')->{stdout}, "0\n", "$kind: until the tenant opens it again");
    @results = $wire->({cmd => 'echo 1 >outputs/x', work => [10, 1000], hold => 1}, {cmd => 'echo next'});
    is($results[1]{stdout}, "next\n", "$kind: the next run comes when the artifacts were read");
    $got = $one->(cmd => q{perl -e 'chdir "outputs"; for (1 .. 3000) { mkdir "d"; chdir "d" } open F, ">f"; chmod 0, "."'}, work => [10, 1000]);
    is($got->{artifacts}[0]{status} // 0, 0, "$kind: a deep tree of outputs");
    is($one->(cmd => 'ls -A outputs | wc -l', work => [10, 1000])->{stdout}, "0\n", "$kind: is emptied");

    # ---- work on files ----
    is($one->(cmd => q{mkdir -p m/a m/b m/c/d; echo hi >m/a/f; perl -e 'rename "m/a/f", "m/b/f" and rename "m/c", "m/b/c" and link "m/b/f", "m/a/l" or print $!'; cat m/a/l; ls m/b})->{stdout},
        "hi\nc\nf\n", "$kind: files and directories can be moved to another directory");
    @results = $wire->({kind => $FILES, files => {op => $PUT, path => 'in/put'}, stdin => 'bytes'}, {cmd => 'cat in/put; stat -c %a:%u in/put'},
        {kind => $FILES, files => {op => $GET, path => 'in/put'}}, {kind => $FILES, files => {op => $LIST, path => '', count_max => 3}},
        {kind => $FILES, files => {op => $GET, path => 'out/passwd'}}, {kind => $FILES, files => {op => $MKDIR, path => 'in/new/er'}},
        {kind => $FILES, files => {op => $DELETE, path => 'in', flags => $RECURSIVE}}, {kind => $FILES, files => {op => $STAT, path => 'in'}});
    is($results[0]{answers}[0]{size}, 5, "$kind: put");
    is($results[1]{stdout}, 'bytes644:1000' . "\n", "$kind: as the user's file");
    is($results[2]{answers}[0]{content}, 'bytes', "$kind: get");
    is($results[3]{answers}[-1]{status}, 7, "$kind: list: the first of more") or diag(encode_json($results[3]));
    is($results[4]{answers}[0]{status}, 40, "$kind: not through a link");
    is($results[5]{answers}[0]{kind}, 'd', "$kind: mkdir");
    is($results[6]{answers}[0]{status}, 0, "$kind: delete");
    is($results[7]{answers}[0]{status}, 2, "$kind: it is gone");
    is($_->{exit_code}, 0, "$kind: a file operation ends well") for @results[0, 2 .. 7];

    # ---- programs: what a language's command becomes ----
    my $code = sub { return $one->(kind => $CODE, language => 'bash', @_) };
    $got = $code->(code => 'echo "$1|$2|$#|$E|$PWD"; cat; exit 3', args => ['a b', ''], env => {E => 'e'}, stdin => 'in');
    is("$got->{stdout}|$got->{exit_code}", "a b||2|e|/work\nin|3", "$kind: a program with its arguments");
    is($code->(code => 'ls .run', places => [['.run/other', 'x']])->{stdout}, "main.sh\nother\n", "$kind: its directory");
    is($code->(code => 'ls .run')->{stdout}, "main.sh\n", "$kind: is emptied before the next");
    for (['deep and closed', 'cd .run; for i in {1..40}; do mkdir d; : >d/f; cd d; done; mkdir -p /work/.run/x/y; chmod 0 /work/.run/x'],
        ['hidden ones', ': >.run/.a; mkdir .run/..b; ln -s / .run/c; ln .run/main.sh .run/.d; mkfifo .run/e'],
        ['a thousand', 'for i in {1..1000}; do : >.run/$i; done'], ['another mode', 'chmod 700 .run'], ['a link in its place', 'rm -r .run; mkdir -p kept; : >kept/x; ln -s kept .run'],
        ['a file in its place', 'rm -r .run; : >.run'], ['nothing', 'rm -r .run']) {
        $code->(code => $_->[1]);
        is($code->(code => 'ls -A .run; stat -c %a:%F .run; cat .run/main.sh | wc -l')->{stdout}, "main.sh\n755:directory\n0\n", "$kind: $_->[0]");
    }
    is($code->(code => 'ls kept')->{stdout}, "x\n", "$kind: what a link led to is there");
    like($code->(code => 'grep -h Sig /proc/self/status; echo $-; shopt -q login_shell; for i in 3 4 5 6 255; do [ -e /proc/$$/fd/$i ] && echo fd $i; done')->{stdout},
        qr{\ASigQ:\t\S+\nSigPnd:\t0+\nSigBlk:\t0+\nSigIgn:\t0+\nSigCgt:\t\S+\nhB\n(?:fd 255\n)?\z}, "$kind: no signal is blocked or ignored, nothing else is open");
    $one->(cmd => 'mkdir -p b1 b2 b3 b4/bash; echo true >b1/bash; echo true >b2/bash; chmod +x b2/bash; ln -s /bin/bash b3/bash');
    for (['/none:relative', 127, 'bash: command not found'], ['/work/b1', 126, 'bash: Permission denied'], ['/work/b1:/none', 126, 'bash: Permission denied'],
        ['/work/b2:/bin', 126, 'bash: Exec format error'], ['/work/b4', 126, 'bash: Permission denied'], ['', 127, 'bash: command not found']) {
        my ($path, $status, $says) = @$_;
        $got = $code->(code => 'echo ran', env => {PATH => $path});
        is("$got->{stdout}|$got->{stderr}|$got->{outcome}|$got->{exit_code}", "|brood: $says\n|$OK|$status", "$kind: PATH=$path");
    }
    is($code->(code => 'echo ran', env => {PATH => $_})->{stdout}, "ran\n", "$kind: PATH=$_") for '/none:/work/b1:/bin', '/work/b3', 'b3', '/bin/cat:/usr/bin';

    # ---- a fresh home ----
    my $fresh = $one->(ns => '', cmd => 'echo $PWD; ls -A; echo x >f; cat f; df --output=fstype,size -B1M . | tail -1; stat -c "%a %u" .; hostname', places => [['given', 'g']]);
    like($fresh->{stdout}, qr{\A/work\ngiven\nx\ntmpfs\s+\d+\n755 1000\n}, "$kind: a fresh home is an empty tmpfs");
    is($one->(ns => '', cmd => 'ls -A')->{stdout}, '', "$kind: the next one is another");
    $fresh = $one->(ns => '', cmd => 'ulimit -f unlimited; dd if=/dev/zero of=big bs=1M count=100000 2>&1 | grep -o "No space.*"; for ((i = 0; i < 1000000; i++)); do >n$i || break; done 2>/dev/null; echo $((i < 1000000)); mknod dev c 1 3 2>&1 | grep -c .');
    like($fresh->{stdout}, qr/\A(?:No space left on device\n)?1\n1\n\z/, "$kind: it is limited, in bytes and files, and has no devices") or diag($fresh->{reason});
}

my $languages = "/tmp/brood-languages-$$";
mkdir $languages or die;
spew("$languages/bash.yaml", slurp(Brood::root() . '/etc/languages.d/bash.yaml'));
my $brood = Brood->start('languages-dir' => $languages);
suite($brood, 'bash');
# While runs are clean they share memory: what is placed and asked goes through that, too.
$brood->recycle('a');
my @same = map { (split ' ', $brood->sh(a => 'read -ra s </proc/$$/stat; echo ${s[5]} $$')->{stdout})[0] } 1, 2;
is($same[0], $same[1], 'control: casts of one mould');
$brood->stop;
$brood = Brood->start('languages-dir' => $languages, zygote => 'exec');
suite($brood, 'static');
$brood->stop;
unlink "$languages/bash.yaml";
rmdir $languages;
done_testing;
