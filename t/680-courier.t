#!/usr/bin/env perl
# SPDX-License-Identifier: Apache-2.0
# t/680-courier.t - brood-courier alone, asked as the frontend asks it: what it delivers, to whom it does not go whatever the
# URL and the name server say, and that nothing that one receiver does keeps it from the others.
use lib 't/lib';
use Brood;
use Brood::Receivers;
use IPC::Open2;
use Mojo::JSON qw(decode_json encode_json);
use Time::HiRes qw(time);

Brood::require_layer(qw(root ip nsenter python3 openssl));
my $world = Brood::Receivers->new({
    'a.test' => ['9.1.1.1'], 'b.test' => ['9.1.1.2'], 'dead.test' => ['9.1.2.1'], 'private.test' => ['10.9.9.9'],
    'loop.test' => ['127.0.0.1'], 'own.test' => ['9.0.0.1'], 'meta.test' => ['169.254.169.254'], 'any.test' => ['0.0.0.0'],
    'mapped.test' => ['::ffff:127.0.0.1'], 'loop6.test' => ['::1'], 'nat64.test' => ['64:ff9b::7f00:1'], 'six.test' => ['2002:7f00:1::1'],
    'both.test' => ['127.0.0.1', '9.1.1.3'], 'mute.test' => 'silent', 'rebind.test' => {then => [['9.1.1.4'], ['127.0.0.1']]},
    'sub.wild.test' => ['9.1.1.5'], 'nothing.test' => [],
}, tls => 1);
my @hosts = qw(a b dead private loop own meta any mapped loop6 nat64 six both mute rebind nothing none hosts);
my $allow = join ',', (map { ("http://$_.test", "http://$_.test:8080", "$_.test", "$_.test:444") } @hosts), 'http://*.wild.test',
  'http://127.0.0.1:8080', 'http://[::1]:8080', 'http://9.1.1.1';
my ($in, $out, %answers, $tag, $pid);

sub start {
    my (@more) = @_;
    my $driver = open2($out, $in, $world->inside, 'env', 'http_proxy=http://127.0.0.1:8080', 'all_proxy=http://127.0.0.1:8080', 'HTTPS_PROXY=http://127.0.0.1:8080',
        'RES_OPTIONS=timeout:2 attempts:2', 'python3', Brood::root() . '/t/lib/courier_drive.py',
        'setpriv', '--reuid=54321', '--regid=54321', '--clear-groups', '--bounding-set=-all', '--inh-caps=-all', Brood::build() . '/brood-courier', '--allow', $allow,
        '--ca-file', $world->{ca}, '--connect-ms', 1500, '--timeout-ms', 2500, '--log-format', 1, @more);
    $in->autoflush;
    $pid = decode_json(scalar <$out>)->{pid};
    my $hello = decode_json(scalar <$out>);
    is($hello->{kind}, 'hello', 'it says that it is there');
    return $driver;
}

sub ask {
    my ($url, %more) = @_;
    print {$in} encode_json({url => $url, tag => ++$tag, %more}), "\n";
    return $tag;
}

sub answer {
    my ($of) = @_;
    until ($answers{$of}) {
        my $line = <$out> // die 'the courier is gone';
        my $a = decode_json($line);
        $a->{kind} && $a->{kind} eq 'answer' ? ($answers{$a->{tag}} = $a) : return $a;
    }
    return delete $answers{$of};
}

sub post { return answer(ask(@_)) }

my $driver = start();

subtest 'it delivers' => sub {
    my $a = post('http://a.test/ok?x=1', body => '{"a":"b"}', delivery => 'dlv_x', timestamp => '1234', signature => 'v1=abcd');
    is_deeply([@$a{qw(status complete text)}], [204, 1, ''], 'and says so') or diag explain $a;
    my ($r) = $world->requests('/ok');
    is_deeply([@$r{qw(method path host body to)}], ['POST', '/ok?x=1', 'a.test', '{"a":"b"}', '9.1.1.1'], 'method, path, host, body, address');
    my $h = $r->{headers};
    is_deeply([@$h{qw(content-type brood-delivery brood-timestamp brood-signature content-length expect)}],
        ['application/json', 'dlv_x', '1234', 'v1=abcd', 9, undef], 'headers');
    is(post("http://a.test/status/$_")->{status}, $_, "status $_ is told") for 200, 404, 410, 500, 503;
    is(post('http://sub.wild.test/ok')->{status}, 204, 'a name below *.DOMAIN');
    is(post('http://9.1.1.1/ok')->{status}, 204, 'an address that is listed');
    is(post('http://a.test:8080/ok')->{status}, 204, 'another port');
    my $big = post('http://a.test/big', body => 'x' x 1000000);
    is($big->{status}, 204, 'a large body');
    is(length((grep { $_->{path} eq '/big' } $world->requests('/big'))[0]{body}), 1000000, 'came whole');
};

subtest 'TLS' => sub {
    is(post('https://a.test/tls')->{status}, 204, 'a certificate that is believed');
    my $wrong = post('https://a.test:444/tls-wrong');
    is_deeply([@$wrong{qw(status complete)}], [0, 0], 'one for somebody else is not');
    like($wrong->{text}, qr/certificate/, 'and it is said');
    is(scalar(my @r = $world->requests('/tls-wrong')), 0, 'nothing was told');
    my $plain = post('https://a.test/', url => 'https://b.test/tls-b');
    is($plain->{status}, 204, 'another name of the same certificate');
};

subtest 'who is not listed' => sub {
    for my $url ('http://evil.test/', 'http://a.test.evil.test/', 'http://a.test:81/', 'ftp://a.test/', 'file:///etc/passwd', 'http://x@a.test/',
        'http://a.test@evil.test/', 'http://wild.test/', "http://a.test/\r\nX: y", 'http://a.test\\@evil.test/', 'http://127.0.0.1/', 'http://127.1:8080/',
        'http://[0:0:0:0:0:0:0:1]:8080/', 'http://0x7f.0.0.1:8080/', 'http://a%2etest/', 'gopher://a.test/', '', 'http://', 'http://a.test#@evil.test/') {
        my $a = post($url);
        is_deeply([@$a{qw(status complete)}], [0, 0], 'not asked: ' . $url =~ s/\W/./gr) or diag explain $a;
        like($a->{text}, qr/not on the list|not one that is taken|two ways/, "as $a->{text}");
    }
};

subtest 'addresses that are nobody\'s business' => sub {
    for my $host (qw(private loop own meta any mapped loop6 nat64 six hosts)) {
        my $a = post("http://$host.test:8080/secret");
        is_deeply([@$a{qw(status complete)}], [0, 0], "$host.test is not connected to");
        like($a->{text}, qr/^the host has an? /, $a->{text});
    }
    like(post("http://$_:8080/secret")->{text}, qr/loopback/, "nor $_, though it is on the list") for '127.0.0.1', '[::1]';
    is(post('http://both.test:8080/ok')->{status}, 204, 'of two addresses the public one is taken');
    is(post('http://rebind.test:8080/first')->{status}, 204, 'a name that changes: the first time');
    like(post('http://rebind.test:8080/second')->{text}, qr/loopback/, 'the second time it is looked at again');
    is(scalar(my @s = $world->requests('/secret')), 0, 'the private address saw nothing');
    is_deeply([map { $_->{path} } $world->canary], [], 'nor did our own');
};

subtest 'strange receivers' => sub {
    my $a = post('http://a.test/redirect?http://127.0.0.1:8080/redirected');
    is_deeply([@$a{qw(status complete)}], [307, 1], 'a redirect is an answer');
    $a = post('http://a.test/redirect?http://b.test/redirected');
    is(scalar(my @r = $world->requests('/redirected')), 0, 'and not followed');
    $a = post('http://a.test/huge');
    is_deeply([@$a{qw(status complete)}], [200, 1], 'of an endless body some is read');
    cmp_ok($a->{ms}, '<', 1000, 'which takes no time');
    for my $path (qw(hang drip drip-head)) {
        $a = post("http://a.test/$path");
        is($a->{complete}, 0, "$path: it is not waited for");
        cmp_ok($a->{ms}, '<', 3500, "$path: longer than the deadline ($a->{ms} ms)");
        cmp_ok($a->{ms}, '>=', 2400, "$path: but until then");
    }
    $a = post('http://a.test/heads');
    is($a->{complete}, 0, 'endless headers');
    cmp_ok($a->{ms}, '<', 2000, 'are cut off') or diag explain $a;
    is(post('http://a.test/close')->{complete}, 0, 'no answer is none');
    $a = post('http://dead.test/');
    is($a->{complete}, 0, 'nobody there');
    cmp_ok($a->{ms}, '<', 2300, "is seen after the time to connect ($a->{ms} ms)");
    like(post("http://$_.test/")->{text}, qr/resolve/, "$_.test: no address") for qw(none nothing);
};

subtest 'nobody waits for another' => sub {
    my @stuck = ((map { ask('http://mute.test/') } 1 .. 20), (map { ask('http://dead.test/') } 1 .. 20), (map { ask('http://a.test/hang') } 1 .. 20));
    my $began = time;
    is(post('http://b.test/quick')->{status}, 204, 'one that answers, behind 60 that hang');
    cmp_ok(time - $began, '<', 1, 'at once');
    my $mute = answer($stuck[0]);
    cmp_ok($mute->{ms}, '<', 2300, "a name server that is silent is not waited for ($mute->{ms} ms)");
    is(answer($_)->{complete}, 0, 'one that hung') for @stuck[1 .. 59];
    cmp_ok(time - $began, '<', 6, 'all within their deadlines');
};

subtest 'asked wrongly' => sub {
    for my $flaw (qw(unsealed long)) {
        like(post('http://a.test/flaw', flaw => $flaw)->{text}, qr/properly/, "$flaw is refused");
    }
    ask('http://a.test/flaw', flaw => $_) for qw(short bare);
    like(post('http://a.test/flaw', $_ => "x\r\nEvil: y")->{text}, qr/properly/, "$_ with a line of its own") for qw(delivery timestamp signature);
    is(post('http://a.test/ok')->{status}, 204, 'it goes on');
    is(scalar(my @r = $world->requests('/flaw')), 0, 'and none of those was told');
};

subtest 'asked twice' => sub {
    my ($old, $new) = map { ask('http://a.test/drip/twice', delivery => 'dlv_twice') } 1, 2;
    is(answer($new)->{tag}, $new, 'the last one who asks gets the answer');
    is(scalar(my @r = $world->requests('/drip/twice')), 1, 'of one attempt');
};

subtest 'what it is' => sub {
    my ($status) = Brood::slurp("/proc/$pid/status");
    is_deeply([$status =~ /^(?:CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\S+)/mg], [('0' x 16) x 3, 1, 2], 'no capabilities, no new privileges, a filter');
    my @held = grep { !m{^(?:socket:|pipe:|anon_inode:\[event\w+\]|/dev/null)} } map { readlink($_) // () } glob "/proc/$pid/fd/*";
    @held = grep { !m{^/(?:dev|tmp|root|work)/?} } @held;
    is_deeply(\@held, [], 'it holds sockets');
    is((stat "/proc/$pid/mem")[4], 0, 'and is not dumpable');
};

subtest 'killed' => sub {
    ask('http://a.test/hang');
    print {$in} "{\"kill\":true}\n";
    my ($born, $hello) = map { decode_json(scalar <$out>) } 1, 2;
    is($hello->{kind}, 'hello', 'the next one says that it is there');
    $pid = $born->{pid};
    is(post('http://a.test/ok')->{status}, 204, 'and delivers');
};

subtest 'another name server' => sub {
    Brood::spew("$world->{dir}/resolv2.conf", "nameserver 9.1.1.1\n");
    system($world->inside, 'mount', '--bind', "$world->{dir}/resolv2.conf", '/etc/resolv.conf') == 0 or die;
    ask('http://a.test/ok');
    ok(Brood::until_true(5, sub { my $t = Brood::slurp("/proc/$pid/stat"); !defined $t || $t =~ /^\d+ \(.*\) Z/ }), 'it ends, to be started anew');
};
close $in;
waitpid $driver, 0;
done_testing;
