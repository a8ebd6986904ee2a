# SPDX-License-Identifier: Apache-2.0
# A directory of a namespace as a tar, both ways: what comes out is what went in, an evil archive harms at most
# the namespace it was sent to, and a broken one never looks whole.
use lib 't/lib';
use Brood;
use Archive::Tar;
use File::Temp qw(tempdir);
use Time::HiRes qw(time);

my $brood = Brood->start(tcp => 1, 'limits-fsize-mb' => 8, 'limits-tmp-mb' => 16, 'http-write-timeout' => '2s');
my $dir = tempdir(CLEANUP => 1);

sub url {
    my ($ns, %query) = @_;
    return "/v1/namespaces/$ns/archive" . (%query ? '?' . join '&', map { "$_=$query{$_}" } sort keys %query : '');
}

sub extract {
    my ($ns, $bytes, %query) = @_;
    return $brood->request(POST => url($ns, %query), body => $bytes, headers => {'Content-Type' => 'application/x-tar'}) // {status => 0};
}

sub refused {
    my ($what, $status, $code, $res) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = ref $res->{json} eq 'HASH' ? $res->{json}{error} // {} : {};
    ok($res->{status} == $status && ($error->{code} // '') eq $code, "$what: $status $code") or diag "got $res->{status}: ", $res->{body} // 'nothing';
}

# What a directory on the host holds, in words.
sub describe {
    my ($at) = @_;
    my @lines = sort split /\n/, qx{cd '$at' && find . -printf '%P|%y|%m|%l|%TY-%Tm-%Td %TH:%TM|' -type f -exec md5sum {} ';' -o -printf '\\n'};
    s/\s+\.\/.*// for @lines;
    return \@lines;
}

# A tar of members as they are given: {name, data, mode, type, linkname}.
sub tar_of {
    my (@members) = @_;
    my $bytes = '';
    for my $m (@members) {
        my $data = $m->{data} // '';
        my $head = pack 'a100 a8 a8 a8 a12 a12 a8 a1 a100 a6 a2 a32 a32 a8 a8 a155 x12', $m->{name}, sprintf('%07o', $m->{mode} // 0644),
          sprintf('%07o', 0), sprintf('%07o', 0), sprintf('%011o', $m->{size} // length $data), sprintf('%011o', 1), ' ' x 8, $m->{type} // '0',
          $m->{linkname} // '', 'ustar', '00', 'root', 'root', sprintf('%07o', 1), sprintf('%07o', 3), '';
        substr $head, 148, 8, sprintf("%06o\0 ", unpack '%32C*', $head);
        $bytes .= $head . $data . "\0" x (-length($data) % 512);
    }
    return $bytes . "\0" x 1024;
}

subtest 'round trip' => sub {
    mkdir "$dir/in";
    my $long = join '/', map { "$_" x 60 } 'a' .. 'd';
    qx{cd $dir/in && mkdir -p '$long' empty sub && echo long > '$long/file' && echo x > sub/x && chmod 0751 sub && chmod 0640 sub/x && ln -s x sub/link &&
        ln -s /etc/passwd sub/absolute && printf '#!/bin/sh\\necho ran\\n' > tool && chmod 755 tool && : > none && head -c 3000000 /dev/urandom > big &&
        touch "\$(printf 'new\\nline')" && touch "\$(printf '\\377\\376')" && touch -d '2001-02-03 04:05' sub/x && chmod 700 sub && chmod 555 empty};
    for my $z ('', 'z') {
        my $ns = "round$z";
        my $tar = qx{cd $dir/in && tar c${z}f - .};
        my $res = extract($ns, $tar, path => 'to/here');
        is($res->{status}, 200, "extracted ($z)") or diag $res->{body};
        is($brood->sh($ns => 'to/here/tool')->{stdout}, "ran\n", 'a program runs');
        for my $gzip (0, 1) {
            $res = $brood->request(GET => url($ns, path => 'to/here', gzip => $gzip));
            is($res->{status}, 200, 'and fetched again');
            is($res->{headers}{'content-type'}, $gzip ? 'application/gzip' : 'application/x-tar', 'as what it is');
            is($res->{headers}{'transfer-encoding'}, 'chunked', 'streamed');
            my $out = "$dir/out$z$gzip";
            mkdir $out;
            spew("$out.tar", $res->{body});
            is(system("tar xp@{[$gzip ? 'z' : '']}f $out.tar -C $out"), 0, 'a whole archive');
            is_deeply(describe($out), describe("$dir/in"), 'with the same names, modes, links, times and contents');
        }
    }
    my $res = $brood->request(GET => url('round'));
    like($res->{headers}{'content-disposition'}, qr/^attachment; filename="round.tar"/, 'all of /work, to be saved');
    my @names = map { $_->full_path } Archive::Tar->new(do { open my $fh, '<', \$res->{body}; $fh })->get_files;
    ok((grep { $_ eq './to/here/tool' } @names), 'from its root');
};

subtest 'what is not there, or none' => sub {
    refused('a directory that is not there', 404, 'not_found', $brood->request(GET => url('round', path => 'nowhere')));
    refused('a file', 404, 'not_found', $brood->request(GET => url('round', path => 'to/here/tool')));
    refused('a namespace that is not there', 404, 'not_found', $brood->request(GET => url('nobody')));
    $brood->sh(round => 'ln -s /etc out; ln -s to in');
    isnt($brood->request(GET => url('round', path => $_))->{status}, 200, "through a link: $_") for 'out', 'in', 'in/here';
    refused("path $_", 400, 'bad_request', $brood->request(GET => url('round', path => $_))) for '..', '../x', 'a/../..', '/etc', '%2e%2e', '%00', '%zz', 'a//b';
    refused("POST to $_", 400, 'bad_request', extract('round', tar_of(), path => $_)) for '..', '/etc', 'a/../../b', '%00';
    refused("?$_->[0]=$_->[1]", 400, 'bad_request', $brood->request(GET => url('round', @$_))) for [gzip => 'yes'], [timeout => 0], [timeout => 'x'], [timeout => 1e9];
    refused('no body', 400, 'bad_request', extract('round', ''));
    refused($_->[0], 422, 'archive_error', extract('round', $_->[1], path => 'broken')) for
      ['garbage', 'garbage' x 500], ['cut off', substr tar_of({name => 'f', data => 'x' x 5000}), 0, 2000], ['gzip of garbage', "\x1f\x8b\x08garbage"];
    is($brood->sh(round => 'echo -n "$(id -u)"')->{stdout}, '1000', 'the namespace is as before');
    my $odd = $brood->sh(round => q{cd /work && mkdir -- '-rf' '$(touch pwned)' '"; touch pwned; "' 2>/dev/null; ls | wc -l});
    is($brood->request(GET => url('round', path => $_))->{status}, 200, "a directory called $_") for '-rf', '$(touch%20pwned)', '"%3B%20touch%20pwned%3B%20"';
    is($brood->sh(round => 'ls /work/*pwned* ~/pwned 2>/dev/null | grep -x pwned')->{stdout}, '', 'is a name, never a command');
};

subtest 'evil archives' => sub {
    spew("$brood->{dir}/victim", 'untouched');
    my $res = extract('evil', tar_of({name => '/abs/file', data => 'x'}, {name => '//etc/brood-was-here', data => 'x'}), path => 'abs');
    is($brood->sh(evil => 'cat abs/abs/file')->{stdout}, 'x', 'absolute names are made relative');
    refused('..', 422, 'archive_error', extract('evil', tar_of({name => '../../up', data => 'x'}), path => 'a/b'));
    refused('.. within', 422, 'archive_error', extract('evil', tar_of({name => 'x/../../../up', data => 'x'}), path => 'a/b'));
    is($brood->sh(evil => 'find / -name up -type f 2>/dev/null; ls -A')->{stdout}, "a\nabs\n", 'nothing came out of the directory');
    extract('evil', tar_of({name => 'l', type => 2, linkname => '/tmp'}, {name => 'l/through', data => 'x'}), path => 'links');
    extract('evil', tar_of({name => 'm', type => 2, linkname => '../..'}, {name => 'm/through', data => 'x'}), path => 'links');
    extract('evil', tar_of({name => 'h', type => 1, linkname => '/etc/passwd'}, {name => 'h', data => 'x'}), path => 'links');
    is($brood->sh(evil => 'find /tmp /work -name through -not -path "*/links/*"; head -c 4 /etc/passwd')->{stdout}, 'root', 'no link leads a member elsewhere');
    extract('evil', tar_of({name => 'null', type => 3}, {name => 'disk', type => 4}, {name => 'fifo', type => 6}), path => 'nodes');
    is($brood->sh(evil => 'find nodes -type b -o -type c')->{stdout}, '', 'no device');
    extract('evil', tar_of({name => 'suid', mode => 06755, data => "#!/bin/sh\nid -u\n"}), path => 'suid');
    is($brood->sh(evil => 'suid/suid')->{stdout}, "1000\n", 'a setuid bit gives nothing');
    ok(!-e '/etc/brood-was-here', 'nothing on the host');
    is(slurp("$brood->{dir}/victim"), 'untouched', 'nowhere');
    is($brood->sh(other => 'ls -A')->{stdout}, '', 'nor in another namespace');
};

subtest 'bombs' => sub {
    my $bomb = qx{head -c 100000000 /dev/zero | gzip -c > $dir/zeros.gz; cd $dir && truncate -s 30M thirty && tar czf - thirty};
    refused('a file larger than the policy allows', 413, 'too_large', extract('bomb', $bomb, path => 'b'));
    cmp_ok($brood->sh(bomb => 'du -sm b | cut -f1')->{stdout}, '<=', 9, 'no more of it than that is there');
    $bomb = slurp("$dir/zeros.gz");
    is(extract('bomb', $bomb, path => 'c')->{status} . $brood->sh(bomb => 'ls -A c')->{stdout}, '200', '100 MB of zeros are an empty archive');
    $bomb = tar_of(map { {name => "d$_/" x 20 . 'f'} } 1 .. 50);
    is(extract('bomb', $bomb, path => 'deep')->{status}, 200, 'many and deep');
    my $slow = qx{cd $dir && for i in \$(seq 20); do truncate -s 7M s\$i; done; tar czf - s?*};
    my $begin = time;
    refused('too slow', 504, 'timeout', extract('bomb', $slow, path => 's', timeout => '0.05'));
    cmp_ok(time - $begin, '<', 5, 'in time');
    is($brood->sh(bomb => 'echo still there')->{stdout}, "still there\n", 'the namespace goes on');
};

subtest 'a stream that ends early' => sub {
    $brood->sh(slow => 'for i in {1..8}; do head -c 7000000 /dev/urandom > f$i; done', timeout => 60);
    my $conn = $brood->connect;
    $conn->put(Brood::Conn->request(GET => url('slow', timeout => 1)));
    my $res = until_true(1, sub { $conn->readable });
    ok($res, 'it begins');
    my $begin = time;
    my $run = $brood->post(slow => 'echo free');
    is($brood->result($run)->{stdout}, "free\n", 'a reader that does not read keeps the namespace no longer than its timeout');
    ok(!defined $conn->get(20) && $conn->{why} eq 'closed', 'and its archive is cut, visibly');
    $conn = $brood->connect;
    $conn->put(Brood::Conn->request(GET => url('slow')));
    ok($conn->readable(10), 'another begins');
    $conn->close;
    $begin = time;
    is($brood->sh(slow => 'echo free')->{stdout}, "free\n", 'its reader leaves');
    cmp_ok(time - $begin, '<', 3, 'and the namespace is free at once');
    $brood->sh(slow => 'chmod 000 f4');
    $conn = $brood->connect;
    $conn->put(Brood::Conn->request(GET => url('slow')));
    ok(!defined $conn->get(20) && $conn->{why} eq 'closed', 'a file that tar cannot read: the archive does not look whole');
    $brood->sh(slow => 'chmod 644 f4');
    is($brood->request(GET => url('slow'))->{status}, 200, 'and without it all is well');
};

is_deeply([grep { ($_->{level} // '') eq 'error' } $brood->log_lines], [], 'nothing in the log is an error');
$brood->stop;
done_testing;
