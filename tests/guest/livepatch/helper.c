/* Stands in front of every program that the patch script calls, under its name: counts the calls of a run, and lets the
 * n-th one fail, be killed or hang. /run/lab/helper holds n and how: "fail" and "kill" happen instead of the program,
 * "late-fail" and "late-kill" after it did its work, "hang" for ever. /run/lab/helper.log lists the programs.
 */
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static void run(const char *name, char **argv)
{
	static const char *const folders[] = {"/usr/local/lib/lab", "/usr/bin", "/usr/sbin"};
	char path[512];

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], name);
		if (access(path, X_OK))
			continue;
		/* What a stand-in calls is the lab's own affair. */
		if (!i)
			setenv("PATH", "/usr/bin:/usr/sbin", 1);
		execv(path, argv);
	}
	_exit(127);
}

static int count(const char *name)
{
	char line[128];
	int file = open("/run/lab/helper.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644), calls = 0;

	if (file < 0 || flock(file, LOCK_EX))
		return 0;
	for (ssize_t got; (got = read(file, line, sizeof(line))) > 0;)
		for (ssize_t i = 0; i < got; i++)
			calls += line[i] == '\n';
	snprintf(line, sizeof(line), "%s\n", name);
	if (write(file, line, strlen(line)) < 0)
		calls = 0;
	close(file);
	return calls + 1;
}

int main(int argc, char **argv)
{
	const char *name = basename(argv[0]);
	char how[32] = "";
	int wanted = 0, number;
	FILE *plan = fopen("/run/lab/helper", "re");

	(void)argc;
	if (!plan)
		run(name, argv);
	if (fscanf(plan, "%d %31s", &wanted, how) < 1)
		wanted = 0;
	fclose(plan);
	number = count(name);
	if (number != wanted)
		run(name, argv);
	if (!strncmp(how, "late-", 5)) {
		pid_t child = fork();
		if (!child)
			run(name, argv);
		waitpid(child, NULL, 0);
	}
	if (!strcmp(how, "hang"))
		for (;;)
			pause();
	if (strstr(how, "kill"))
		kill(getpid(), SIGKILL);
	return 1;
}
