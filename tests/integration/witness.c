/* Says what a container lets it see. As "true" it only ends well; "witness write PATH" creates a file and
   says how that went; "witness sleep" ignores SIGTERM as a first process does; else it prints its environment,
   the network interfaces and whether a datagram can be sent, one thing a line.
   SPDX-License-Identifier: LGPL-2.1-or-later  */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

static int
try_to_write (const char *path)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0)
    {
      printf ("write %s: %s\n", path, strerror (errno));
      return 0;
    }
  printf ("write %s: %s\n", path, write (fd, "written\n", 8) == 8 ? "done" : strerror (errno));
  return 0;
}

static void
try_the_network (void)
{
  struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons (53) };
  inet_pton (AF_INET, "192.0.2.1", &there.sin_addr);
  int fd = socket (AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect (fd, (struct sockaddr *) &there, sizeof there) != 0)
    printf ("network %s\n", strerror (errno));
  else
    puts ("network has a route");
}

int
main (int argc, char **argv)
{
  const char *name = strrchr (argv[0], '/');
  if (strcmp (name ? name + 1 : argv[0], "true") == 0)
    return 0;
  if (argc == 3 && strcmp (argv[1], "write") == 0)
    return try_to_write (argv[2]);
  if (argc == 2 && strcmp (argv[1], "sleep") == 0)
    for (;;)
      pause ();
  for (char **variable = environ; *variable; variable++)
    printf ("env %s\n", *variable);
  struct if_nameindex *interfaces = if_nameindex ();
  for (struct if_nameindex *i = interfaces; i && i->if_index; i++)
    printf ("interface %s\n", i->if_name);
  try_the_network ();
  return 0;
}
