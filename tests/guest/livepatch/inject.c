/* Runs a command and makes its n-th file system call fail: a kernel-side view of a full or dying disk.
 *
 *   inject <errno> <once|stay> <n> <file for the count> command...
 *
 * A seccomp filter stops only the calls of the table below; the tracer counts those that touch the folders that a patch
 * writes, in all processes of the command together. "once" fails the n-th of them; "stay" fails that one and every later
 * one that needs space, which is what a full disk does: renames, removals and syncs still work. n = 0 only counts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the injector knows the registers of x86-64 only"
#endif

enum how { BY_FD, BY_FD_OUT, BY_PATH, BY_AT, BY_RENAME_AT, BY_LINK_AT, BY_OPEN, BY_OPEN_AT };
static const struct { int number; enum how how; int allocates; } CALLS[] = {
	{SYS_write, BY_FD, 1}, {SYS_pwrite64, BY_FD, 1}, {SYS_writev, BY_FD, 1}, {SYS_copy_file_range, BY_FD_OUT, 1},
	{SYS_ftruncate, BY_FD, 0}, {SYS_fsync, BY_FD, 0}, {SYS_fdatasync, BY_FD, 0}, {SYS_syncfs, BY_FD, 0},
	{SYS_open, BY_OPEN, 1}, {SYS_openat, BY_OPEN_AT, 1}, {SYS_mkdir, BY_PATH, 1}, {SYS_mkdirat, BY_AT, 1},
	{SYS_symlinkat, BY_LINK_AT, 1}, {SYS_linkat, BY_LINK_AT, 1}, {SYS_rename, BY_PATH, 0},
	{SYS_renameat, BY_RENAME_AT, 0}, {SYS_renameat2, BY_RENAME_AT, 0}, {SYS_unlink, BY_PATH, 0},
	{SYS_unlinkat, BY_AT, 0}, {SYS_rmdir, BY_PATH, 0}, {SYS_chmod, BY_PATH, 0}, {SYS_fchmodat, BY_AT, 0},
};
#define COUNT (sizeof(CALLS) / sizeof(CALLS[0]))
static const char *const WRITTEN[] = {"/etc/", "/opt/", "/root/", "/usr/", "/var/", "/.cloud-livepatch"};

static void filter(void)
{
	struct sock_filter program[COUNT * 2 + 2];
	size_t length = 0;

	program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < COUNT; i++) {
		program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[i].number, 0, 1);
		program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | i);
	}
	program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog whole = {.len = length, .filter = program};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole)) {
		perror("seccomp");
		exit(126);
	}
}

static void of_fd(pid_t pid, int fd, char *path, size_t size)
{
	char link[64];
	if (fd == AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/%d/cwd", pid);
	else
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, fd);
	ssize_t length = readlink(link, path, size - 1);
	path[length > 0 ? length : 0] = '\0';
}

static void of_name(pid_t pid, int fd, unsigned long address, char *path, size_t size)
{
	char name[2048] = "";
	struct iovec here = {name, sizeof(name) - 1}, there = {(void *)address, sizeof(name) - 1};
	if (process_vm_readv(pid, &here, 1, &there, 1, 0) <= 0) {
		there.iov_len = here.iov_len = 4096 - (address & 4095) < sizeof(name) - 1 ? 4096 - (address & 4095) : sizeof(name) - 1;
		process_vm_readv(pid, &here, 1, &there, 1, 0);
	}
	path[0] = '\0';
	if (name[0] != '/') {
		of_fd(pid, fd, path, size);
		strncat(path, "/", size - strlen(path) - 1);
	}
	strncat(path, name, size - strlen(path) - 1);
}

static int touches(pid_t pid, enum how how, const struct user_regs_struct *r)
{
	char path[4096] = "";
	struct stat info;
	switch (how) {
	case BY_FD: of_fd(pid, r->rdi, path, sizeof(path)); break;
	case BY_FD_OUT: of_fd(pid, r->rdx, path, sizeof(path)); break;
	case BY_PATH: of_name(pid, AT_FDCWD, r->rdi, path, sizeof(path)); break;
	case BY_AT: of_name(pid, r->rdi, r->rsi, path, sizeof(path)); break;
	case BY_RENAME_AT: of_name(pid, r->rdx, r->r10, path, sizeof(path)); break;
	case BY_LINK_AT:
		if (r->orig_rax == SYS_symlinkat)
			of_name(pid, r->rsi, r->rdx, path, sizeof(path));
		else
			of_name(pid, r->rdx, r->r10, path, sizeof(path));
		break;
	case BY_OPEN:
		if (!(r->rsi & O_CREAT))
			return 0;
		of_name(pid, AT_FDCWD, r->rdi, path, sizeof(path));
		break;
	case BY_OPEN_AT:
		if (!(r->rdx & O_CREAT))
			return 0;
		of_name(pid, r->rdi, r->rsi, path, sizeof(path));
		break;
	}
	/* An existing file may be opened on a full disk. */
	if ((how == BY_OPEN || how == BY_OPEN_AT) && !stat(path, &info))
		return 0;
	for (size_t i = 0; i < sizeof(WRITTEN) / sizeof(WRITTEN[0]); i++)
		if (!strncmp(path, WRITTEN[i], strlen(WRITTEN[i])))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return 126;
	int error = atoi(argv[1]), stay = !strcmp(argv[2], "stay"), status = 0, result = 0;
	long wanted = atol(argv[3]), count = 0;
	pid_t child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		filter();
		execvp(argv[5], argv + 5);
		_exit(127);
	}
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
						PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC);
	ptrace(PTRACE_CONT, child, 0, 0);
	for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (pid == child)
				result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		int signal = WSTOPSIG(status), event = status >> 16;
		if (event == PTRACE_EVENT_SECCOMP) {
			unsigned long which = 0;
			struct user_regs_struct r;
			ptrace(PTRACE_GETEVENTMSG, pid, 0, &which);
			ptrace(PTRACE_GETREGS, pid, 0, &r);
			if (which < COUNT && touches(pid, CALLS[which].how, &r)) {
				count += !stay || CALLS[which].allocates;
				if (wanted && (count == wanted || (stay && count > wanted)) && (!stay || CALLS[which].allocates)) {
					r.orig_rax = -1;
					r.rax = -error;
					ptrace(PTRACE_SETREGS, pid, 0, &r);
				}
			}
		}
		/* Stops of the tracing itself carry no signal for the command. */
		ptrace(PTRACE_CONT, pid, 0, event || signal == SIGSTOP || signal == SIGTRAP ? 0 : signal);
	}
	FILE *file = fopen(argv[4], "w");
	if (file) {
		fprintf(file, "%ld\n", count);
		fclose(file);
	}
	return result;
}
