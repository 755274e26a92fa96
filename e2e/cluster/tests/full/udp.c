/* udp serve PORT: answers each datagram with its own bytes. udp ask IP PORT TEXT: asks once a
   second until an answer comes, ten times at most, and prints it. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

int main(int count, char **words) {
    char bytes[1500];
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof at;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (count == 3 && !strcmp(words[1], "serve")) {
        at.sin_port = htons(atoi(words[2]));
        if (bind(s, (struct sockaddr *)&at, length)) return perror("bind"), 1;
        for (;;) {
            ssize_t got = recvfrom(s, bytes, sizeof bytes, 0, (struct sockaddr *)&at, &length);
            if (got >= 0) sendto(s, bytes, got, 0, (struct sockaddr *)&at, length);
        }
    }
    if (count != 5) return 2;
    struct timeval second = {.tv_sec = 1};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    at.sin_port = htons(atoi(words[3]));
    inet_pton(AF_INET, words[2], &at.sin_addr);
    /* Only the address asked is heard, so an answer proves the translation on the way back. */
    if (connect(s, (struct sockaddr *)&at, length)) return perror("connect"), 1;
    for (int i = 0; i < 10; i++) {
        send(s, words[4], strlen(words[4]), 0);
        ssize_t got = recv(s, bytes, sizeof bytes, 0);
        if (got >= 0) return printf("answer %.*s\n", (int)got, bytes), 0;
    }
    return 1;
}
