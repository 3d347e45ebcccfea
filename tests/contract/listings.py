# ruff: noqa: E501 - lines as servers send them
"""What LIST looks like on servers out there, written after their documentation and manuals, and what it means.

Each entry: server, the lines as they come, and the entries in them as ``kind name size time``: kind ``f``, ``d``,
``l`` (with `` -> target``) or ``?`` (shown to nobody), size ``-`` where it is not told, time ``-`` likewise, else to
the minute (``2023-11-21T17:36``) or the day (``2023-11-21``). "Today" is 10 March 2024, noon, UTC.
"""

from __future__ import annotations

CORPUS: dict[str, tuple[str, str]] = {
    "vsftpd": (
        "drwxr-xr-x    2 1000     1000         4096 Mar 09 13:05 pub\n"
        "-rw-------    1 0        0        21474836480 Dec 31 23:59 big.img\n"
        "lrwxrwxrwx    1 0        0              11 Jan 01  2020 latest -> pub/current\n",
        "d pub 4096 2024-03-09T13:05\nf big.img 21474836480 2023-12-31T23:59\nl latest -> pub/current 11 2020-01-01",
    ),
    "ProFTPD": (
        "-rw-r--r--   1 ftp      ftp          1024 Mar 10 09:00 a file.txt\n"
        "drwxr-xr-x   3 (?)      (?)          4096 Feb  3  2023 who knows\n",
        "f a file.txt 1024 2024-03-10T09:00\nd who knows 4096 2023-02-03",
    ),
    "Pure-FTPd": (
        "drwx--x---   11 ftp        ftp               4096 Mar  9 08:01 .\n"
        "drwx--x---   11 ftp        ftp               4096 Mar  9 08:01 ..\n"
        "-rw-r--r--    1 ftp        ftp                  0 Nov 21 10:07 .ftpquota\n",
        "d . 4096 2024-03-09T08:01\nd .. 4096 2024-03-09T08:01\nf .ftpquota 0 2023-11-21T10:07",
    ),
    "wu-ftpd": (
        "total 14786\n"
        "-rw-r--r--   1 root     other        531 Jan 29 03:26 README\n"
        "dr-xr-xr-x   2 root     other        512 Apr  8  1994 etc\n"
        "dr-xr-xr-x   2 root     512 Apr  8  1994 no group\n"
        "lrwxrwxrwx   1 root     other          7 Jan 25 00:17 bin -> usr/bin\n",
        "f README 531 2024-01-29T03:26\nd etc 512 1994-04-08\nd no group 512 1994-04-08\n"
        "l bin -> usr/bin 7 2024-01-25T00:17",
    ),
    "GNU ls with an ACL, SELinux and extended attributes": (
        "-rw-rw-r--+ 1 me staff 12 Mar  1 00:00 acl\n-rw-rw-r--. 1 me staff 12 Mar  1 00:00 selinux\n"
        "-rw-rw-r--@ 1 me staff 12 Mar  1 00:00 attributes\n",
        "f acl 12 2024-03-01T00:00\nf selinux 12 2024-03-01T00:00\nf attributes 12 2024-03-01T00:00",
    ),
    "GNU ls --full-time": (
        "total 4\n-rw-r--r-- 1 me staff 12 2001-09-09 01:46:40.123456789 +0000 billion\n"
        "-rw-r--r-- 1 me staff 12 2001-09-09 01:46:40 +0200 no fraction\n",
        "f billion 12 2001-09-09T01:46\nf no fraction 12 2001-09-09T01:46",
    ),
    "GNU ls, iso styles": (
        "-rw-r--r-- 1 me staff 12 2023-11-21 17:36 long\n-rw-r--r-- 1 me staff 12 03-09 13:05 recent\n"
        "-rw-r--r-- 1 me staff 12 2001-09-09  old\n",
        "f long 12 2023-11-21T17:36\nf recent 12 2024-03-09T13:05\nf  old 12 2001-09-09",
    ),
    "old GNU ls --full-time": (
        "-rw-r--r--   1 me staff      12 Tue Feb 12 10:23:54 2002 with a weekday\n",
        "f with a weekday 12 2002-02-12T10:23",
    ),
    "ls -li and ls -s": (
        "16522 -rw-r--r--   1 me staff      12 Feb 12  2002 inode\n 8 -rw-r--r--   1 me staff   12 Feb 12  2002 blocks\n",
        "f inode 12 2002-02-12\nf blocks 12 2002-02-12",
    ),
    "BSD ls -T": ("-rw-r--r--  1 me  wheel  12 Feb 12 10:23:54 2002 t\n", "f t 12 2002-02-12T10:23"),
    "devices, pipes, sockets": (
        "brw-rw----   1 root disk       8,   0 Jan  1  2020 sda\nprw-r--r--   1 o g 0 Jan  1  2020 pipe\n"
        "srwxr-xr-x   1 o g 0 Jan  1  2020 socket\nDrw-r--r--   1 o g 0 Jan  1  2020 door\n",
        "? sda 0 2020-01-01\n? pipe 0 2020-01-01\n? socket 0 2020-01-01\n? door 0 2020-01-01",
    ),
    "IIS, Unix style": (
        "drwxrwxrwx   1 owner    group               0 Feb 12  2023 aspnet_client\n"
        "-rwxrwxrwx   1 owner    group           65536 Mar  1 23:59 default.htm\n",
        "d aspnet_client 0 2023-02-12\nf default.htm 65536 2024-03-01T23:59",
    ),
    "IIS, DOS style": (
        "11-21-23  05:36AM       <DIR>          My Folder\n11-21-23  05:36PM                 1234 a  b.txt\n"
        "01-01-70  12:00AM                    7 midnight\n",
        "d My Folder - 2023-11-21T05:36\nf a  b.txt 1234 2023-11-21T17:36\nf midnight 7 1970-01-01T00:00",
    ),
    "IIS, four digits of the year": (
        "11-21-2023  05:36PM       <DIR>          d\n11-21-2023  12:05PM                 1234 noon\n",
        "d d - 2023-11-21T17:36\nf noon 1234 2023-11-21T12:05",
    ),
    "IIS, junctions and links": (
        "11-21-23  05:36AM       <JUNCTION>     old [C:\\new place]\n11-21-23  05:36AM       <SYMLINKD>     d [..\\x]\n"
        "11-21-23  05:36AM       <SYMLINK>      s [..\\y]\n",
        "d old - 2023-11-21T05:36\nd d - 2023-11-21T05:36\nl s -> ..\\y - 2023-11-21T05:36",
    ),
    "Windows, other countries": (
        "21.11.2023  17:36             1.234.567 German\n21.11.2023  17:36    <DIR>          Ordner\n"
        "2023-11-21  17:36             1,234 ISO\n11/21/2023  05:36 PM             1,234 American\n"
        "05.04.2023  01:02                 5 April\n",
        "f German 1234567 2023-11-21T17:36\nd Ordner - 2023-11-21T17:36\nf ISO 1234 2023-11-21T17:36\n"
        "f American 1234 2023-11-21T17:36\nf April 5 2023-04-05T01:02",
    ),
    "Serv-U": (
        "drw-rw-rw-   1 user     group           0 Nov  5 09:11 .\n-rw-rw-rw-   1 user     group        1000 Nov  5 09:11 x y\n",
        "d . 0 2023-11-05T09:11\nf x y 1000 2023-11-05T09:11",
    ),
    "FileZilla Server": (
        "drwxrwxrwx 1 ftp ftp               0 Nov 21 17:36 d\n-rw-rw-rw- 1 ftp ftp            4321 Nov 21  2019 f.txt\n",
        "d d 0 2023-11-21T17:36\nf f.txt 4321 2019-11-21",
    ),
    "hosted services, no owner": (
        "d---------   0 user group           0 Jan  5 12:12 folder\n"
        "-r--------   0 user group    65222236 Feb 24 00:39 RegularFile\n",
        "d folder 0 2024-01-05T12:12\nf RegularFile 65222236 2024-02-24T00:39",
    ),
    "NetPresenz (Mac)": (
        "-------r--         326  1391972  1392298 Nov 22  1995 MegaPhone.sit\n"
        "drwxrwxr-x               folder        2 May 10  1996 network\n",
        "f MegaPhone.sit 1392298 1995-11-22\nd network 2 1996-05-10",
    ),
    "NetWare": (
        "total 0\nd [R----F--] supervisor            512       Jan 16 18:53    login\n"
        "- [R----F--] rhesus             214059       Oct 20 15:27    cx.exe\n",
        "d login 512 2024-01-16T18:53\nf cx.exe 214059 2023-10-20T15:27",
    ),
    "EPLF (publicfile, anonftpd)": (
        "+i8388621.48594,m825718503,r,s280,\tdjb.html\n+i8388621.50690,m824255907,/,\t514\n+/,\tplain\n",
        "f djb.html 280 1996-03-01T22:15:03Z\nd 514 - 1996-02-13T23:58:27Z\nd plain - -",
    ),
    "OpenVMS (MultiNet)": (
        "Directory SYS$SYSDEVICE:[ANONYMOUS]\n\n"
        "00README.TXT;3         2/3     15-APR-1997 17:45 [ANONYMOUS]   (RWED,RE,RE,RE)\n"
        "00README.TXT;2         2/3     14-APR-1997 17:45 [ANONYMOUS]   (RWED,RE,RE,RE)\n"
        "PUB.DIR;1              1/3     21-NOV-1997 10:01:11 [SYSTEM]   (RWE,RE,RE,RE)\n"
        "A_NAME_THAT_TAKES_A_LINE_OF_ITS_OWN_BECAUSE_IT_IS_LONG.TAR_GZ;1\n"
        "                     213/216   29-JAN-1996 03:33:12.00  [ANONYMOU,ANONYMOUS]   (RWED,RWED,,)\n"
        "\nTotal of 4 Files, 218/225 blocks.\n",
        "f 00README.TXT - 1997-04-15T17:45\nd PUB - 1997-11-21T10:01\n"
        "f A_NAME_THAT_TAKES_A_LINE_OF_ITS_OWN_BECAUSE_IT_IS_LONG.TAR_GZ - 1996-01-29T03:33",
    ),
    "OS/400": (
        "QSYS            77824 02/23/00 15:09:55 *DIR       QOPT/\nQPGMR           36864 04/20/99 12:43:31 *STMF      a file\n"
        "QSYS            77824 21/11/23 15:09:55 *LIB       LIB.LIB/\nQPGMR                                    *MEM       SRC.MBR\n",
        "d QOPT 77824 2000-02-23T15:09\nf a file 36864 1999-04-20T12:43\nd LIB.LIB 77824 2023-11-21T15:09\nf SRC.MBR - -",
    ),
    "OS/2": (
        "                 0           DIR   04-11-95   16:26  ADDRESS\n            612979      A          04-11-95   16:26  file.ext\n"
        "               323                 06-17-97   16:48  plain\n",
        "d ADDRESS 0 1995-04-11T16:26\nf file.ext 612979 1995-04-11T16:26\nf plain 323 1997-06-17T16:48",
    ),
    "VxWorks": (
        "  size          date       time       name\n--------       ------     ------    --------\n"
        "     512    Jan-01-1980  00:00:00   TEST_DIR          <DIR>\n    4711    Feb-03-2012  11:22:33   kernel.sys\n",
        "d TEST_DIR 512 1980-01-01T00:00\nf kernel.sys 4711 2012-02-03T11:22",
    ),
    "HP NonStop": (
        'File         Code             EOF  Last Modification    Owner  RWEP\n'
        'EMSACSTM      101            9594  26-Jan-06 10:33:56  255,255 "OOOO"\n',
        "f EMSACSTM 9594 2006-01-26T10:33",
    ),
    "z/OS data sets": (
        "Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname\n"
        "WORK01 3390   2023/11/21  1   15  FB      80 27920  PO  SOURCE.COBOL\n"
        "WORK02 3390   2023/11/20  1    1  VB     255 27998  PS  'LOG.LAST'\n",
        "d SOURCE.COBOL - -\nf LOG.LAST - -",
    ),
    "z/OS members": (
        " Name     VV.MM   Created       Changed      Size  Init   Mod   Id\n"
        "PAYROLL   01.02 2001/02/03 2002/03/04 05:06   100   100     0 IBMUSER\n",
        "f PAYROLL - 2002-03-04T05:06",
    ),
    "facts of MLSD in LIST": (
        "modify=20150813224845;perm=fle;type=cdir;unique=119FBB87U4; .\n"
        "modify=20150813224845;perm=adfr;size=951;type=file;unique=119FBB87UE; welcome.msg\n",
        "f welcome.msg 951 2015-08-13T22:48:45Z",
    ),
    "German": (
        "insgesamt 8\n-rw-r--r-- 1 o g 12 9. Mär 13:05 a\n-rw-r--r-- 1 o g 12 Mai  1  2020 b\n-rw-r--r-- 1 o g 12 Dez 31 23:59 c\n",
        "f a 12 2024-03-09T13:05\nf b 12 2020-05-01\nf c 12 2023-12-31T23:59",
    ),
    "French": (
        "total 8\n-rw-r--r-- 1 o g 12 9 févr. 13:05 a\n-rw-r--r-- 1 o g 12 août  1  2020 b\n-rw-r--r-- 1 o g 12 déc. 31 23:59 c\n",
        "f a 12 2024-02-09T13:05\nf b 12 2020-08-01\nf c 12 2023-12-31T23:59",
    ),
    "Spanish, Italian, Portuguese": (
        "-rw-r--r-- 1 o g 12 ene  9 13:05 a\n-rw-r--r-- 1 o g 12 set  1  2020 b\n-rw-r--r-- 1 o g 12 Dez 31 23:59 c\n",
        "f a 12 2024-01-09T13:05\nf b 12 2020-09-01\nf c 12 2023-12-31T23:59",
    ),
    "Dutch, Swedish, Danish, Finnish": (
        "-rw-r--r-- 1 o g 12 mrt  9 13:05 a\n-rw-r--r-- 1 o g 12 1 maj  2020 b\n-rw-r--r-- 1 o g 12 31. dec 23.59 c\n"
        "-rw-r--r-- 1 o g 12 loka  1  2020 d\n",
        "f a 12 2024-03-09T13:05\nf b 12 2020-05-01\nf c 12 2023-12-31T23:59\nf d 12 2020-10-01",
    ),
    "Polish, Czech, Hungarian, Turkish": (
        "-rw-r--r-- 1 o g 12 paź  9 13:05 a\n-rw-r--r-- 1 o g 12 kvě  1  2020 b\n-rw-r--r-- 1 o g 12 szept. 1  2020 c\n"
        "-rw-r--r-- 1 o g 12 Ağu  1  2020 d\n",
        "f a 12 2023-10-09T13:05\nf b 12 2020-05-01\nf c 12 2020-09-01\nf d 12 2020-08-01",
    ),
    "Russian, Greek": (
        "итого 8\n-rw-r--r-- 1 o g 12 июн  9 13:05 a\n-rw-r--r-- 1 o g 12 1 Δεκ  2020 b\n",
        "f a 12 2023-06-09T13:05\nf b 12 2020-12-01",
    ),
    "Chinese, Japanese, Korean": (
        "总用量 8\n-rw-r--r-- 1 o g 12 3月   9 13:05 a\n-rw-r--r-- 1 o g 12 11月 21  2019 b\n-rw-r--r-- 1 o g 12  3월  9 13:05 c\n"
        "-rw-r--r-- 1 o g 12 3月 9日 13:05 d\n-rw-r--r-- 1 o g 12 11月 21日 2019年 e\n",
        "f a 12 2024-03-09T13:05\nf b 12 2019-11-21\nf c 12 2024-03-09T13:05\nf d 12 2024-03-09T13:05\nf e 12 2019-11-21",
    ),
    "German in Latin-1": ("-rw-r--r-- 1 o g 12 M\udce4r  9 13:05 a\n", "f a 12 2024-03-09T13:05"),
    "sizes with separators": (
        "-rw-r--r-- 1 o g 1,234,567 Jan  1  2020 a\n-rw-r--r-- 1 o g 1.234.567 Jan  1  2020 b\n",
        "f a 1234567 2020-01-01\nf b 1234567 2020-01-01",
    ),
    "names that look like something else": (
        "-rw-r--r--   1 o g    7 Jan  1  2020 Jan 02 12:30 x\n-rw-r--r--   1 o g    7 Jan  1  2020   two leading\n"
        "-rw-r--r--   1 o g    7 Jan  1  2020 trailing \n-rw-r--r--   1 o g    7 Jan  1  2020 total 12\n"
        "-rw-r--r--   1 o g    7 Jan  1  2020 a;1\n-rw-r--r--   1 o g    7 Jan  1  2020 size 12 Jan  2  2021 x\n"
        "lrwxrwxrwx   1 o g    7 Jan  1  2020 a -> b -> c\n",
        "f Jan 02 12:30 x 7 2020-01-01\nf   two leading 7 2020-01-01\nf trailing  7 2020-01-01\nf total 12 7 2020-01-01\n"
        "f a;1 7 2020-01-01\nf size 12 Jan  2  2021 x 7 2020-01-01\nl a -> b -> c 7 2020-01-01",
    ),
    "owners that look like something else": (
        "-rw-r--r--   1 Domain Users 7 Jan  1  2020 a\n-rw-r--r--   1 may 2020 7 Jan  1  2020 b\n"
        "-rw-r--r--   1 jan 7 8 Jan  1  2020 c\n-rw-r--r--   1 DOM\\me DOM\\Domain Users 7 Jan  1  2020 d\n",
        "f a 7 2020-01-01\nf b 7 2020-01-01\nf c 8 2020-01-01\nf d 7 2020-01-01",
    ),
    "times without a leading zero": (
        "-rw-r--r--   1 o g    7 Jan  1  9:05 a\n", "f a 7 2024-01-01T09:05"),
    "ahead of us, and leap days": (
        "-rw-r--r--   1 o g   12 Mar 11 11:00 ahead\n-rw-r--r--   1 o g   12 Mar 12 13:05 last year\n"
        "-rw-r--r--   1 o g   12 Feb 29 13:05 leap\n",
        "f ahead 12 2024-03-11T11:00\nf last year 12 2023-03-12T13:05\nf leap 12 2024-02-29T13:05",
    ),
}  # fmt: skip
"""Server or habit → its lines, and their meaning."""
