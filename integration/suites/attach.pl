#!/usr/bin/perl
# attach.pl SOCKET TEXT: what is behind conmon's attach socket. Sends standard input, prints what comes until TEXT is in
# it, then ends. Each packet begins with a byte that tells output from errors; it isn't printed.
use strict;
use warnings;
use Socket;

my ($path, $expected) = @ARGV;
alarm 60;
socket(my $peer, AF_UNIX, SOCK_SEQPACKET, 0) or die "socket: $!\n";
connect($peer, pack_sockaddr_un($path)) or die "connect to $path: $!\n";
while (my $line = <STDIN>) {
    send($peer, $line, 0) or die "send: $!\n";
}
my $seen = "";
until ($seen =~ /\Q$expected\E/) {
    my $packet;
    defined recv($peer, $packet, 65536, 0) or die "receive: $!\n";
    length $packet or die "the end came before $expected: $seen\n";
    $seen .= substr($packet, 1);
}
print $seen;
