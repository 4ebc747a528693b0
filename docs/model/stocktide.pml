/* The way of a record from Kafka through PostgreSQL to Kafka, as services/processor does it; for Spin. README.md says what
   is checked, and what each run found. Every action is one atomic guarded command; what is not in one action may interleave.
   Each assertion has a line to itself, and on it the name of its error: `run` looks for it there.

   Two processors; two partitions of two records. p0 = [A, broken], p1 = [A again, B]. With TIMER, p1 = [B, A again] is a
   partition of payments: B waits for A, and is joined to it or rejected by the timer.

   Bounds (how many faults of a kind):
     KILLS of a processor   REBS rebalances   LOST requests or answers (COMMIT, the end of a Kafka transaction)   TMO transaction
     timeouts of a live producer   FREEZE frozen transactions   KDEL committed offsets deleted   PBACK commits that PostgreSQL loses
   Q: batches that are applied and not yet published, of one processor.

   Variants, each of which takes a rule away; all have to fail:
     NOSTABLE  rule 1  K is given out while a transaction on it is pending
     PFIRST    rule 1  P is read before K
     NOGEN     rule 2  offsets are committed without the generation
     FRESH     rule 2  the generation is that of the moment of sending (with KEEP)
     KEEP      rule 2  a rebalance keeps what is in hand, and stamps it anew
     SAMEID    rule 3  both processors have the same transactional ids
     BLIND     rule 3  a lost answer is taken as "not committed", and the batch sent again
     EARLY     rule 3  the next transaction begins before the one before it is decided
     MARKERS   what rule 3 relies on: the offset kept is that of the last marker, not that of the last append
     FIRSTOFF  rule 4  P is compared with the offset of the batch's first record (there is a gap before the second record of p0)
     NOFENCE   rule 4  P is not compared at all
     NOHINT    rule 5  K missing is taken as "nothing was published"
     NOPBACK   rule 5  P below K is not looked at
     ERASE     rule 6  a batch's offsets do not carry the timer's number
     AHEAD     rule 6  records published again carry the number that the timer has reached, not the one that is published
     NOCUR     rule 6  an owner does not compare the number
     ROWSTATE  rule 6  records published again include what the timer made of them
     NOIDLE    rule 7  the server does not end the transaction of a client that is frozen
     NOREPUB   0002    what lies between K and P is not published again */
#ifndef Q
#define Q 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef REBS
#define REBS 0
#endif
#ifndef LOST
#define LOST 0
#endif
#ifndef TMO
#define TMO 0
#endif
#ifndef FREEZE
#define FREEZE 0
#endif
#ifndef KDEL
#define KDEL 0
#endif
#ifndef PBACK
#define PBACK 0
#endif
#define N 2
#ifdef TIMER
#define RB 2
#define RA 3
#else
#define RB 3
#define RA 2
#endif
/* Transactional ids that are in use at once: two of each live processor, and what a killed one left. */
#define NT (4 + 2*KILLS)

/* A processor: out of the group; finishing or dropping what is in hand; and as in recovery.rs: recover. */
#define JOIN 0
#define DRAIN 1
#define PREPARE 2
#define READK 3
#define READP 4
#define REPUB 5
#define RUN 6
#define STOP 7
/* A Kafka transaction. */
#define EMPTY 0
#define ONGOING 1
#define DECIDED 2
/* Fates. */
#define APPLIED 1
#define DUPLICATE 2
#define REJECTED 3
#define PARKED 4

/* --- PostgreSQL: partition_progress (next_offset, published_offset, timer_seq), the ledger and the log */
byte P[2], pub[2], tp, fate[4], ap[2], du[2], rj[2], pk[2], effA;
/* Rows locked by a transaction whose client does not wait any more: 1 its COMMIT is under way, 2 it is frozen. */
byte lk[2];
/* The records of the last commit, as a mask: what a failover may lose. */
byte last;
bit lostcommit, alarm;
/* --- Kafka: the group, its committed offsets with the number in their metadata, the transactions by transactional id (0: none),
   how often each output is visible in read_committed */
byte gen=1, owner[2], K[2], KT, ks, cnt[5];
typedef txn { byte st, hold, outs, o0, o1, kt, bef, stale; bit pend, late };
txn T[NT+1];
/* --- the processors: state, generation of the stamp, partitions owned, the producer whose turn is next, the other one, the one
   to be retired, phase of the transaction and how many batches are in it, batches in the queue, positions carried over, P as it
   was read, the timer's number as published and as reached, what is known to be published */
byte st[2], mg[2], own[2], fr[2], bk[2], ret[2], ph[2], nt[2], ql[2], pos0[2], pos1[2], rp0[2], rp1[2], tk[2], tpr[2], kn0[2], kn1[2], miss[2];
typedef batch { byte outs, e0, e1, kt, g };
typedef queue { batch b[2] };
queue q[2];
byte kills=KILLS, rebs=REBS, lost=LOST, tmo=TMO, freeze=FREEZE, kdel=KDEL, pback=PBACK;

#define OWNED(i) ((owner[0]==i) + 2*(owner[1]==i))
#define FENCED(i) (T[fr[i]].hold != i+1)
#define PENDING(t,p) (T[t].pend && T[t].o##p)
#ifdef NOSTABLE
#define STABLE(p) 1
#else
#if KILLS==0
#define STABLE(p) (!PENDING(1,p) && !PENDING(2,p) && !PENDING(3,p) && !PENDING(4,p))
#else
#if KILLS==1
#define STABLE(p) (!PENDING(1,p) && !PENDING(2,p) && !PENDING(3,p) && !PENDING(4,p) && !PENDING(5,p) && !PENDING(6,p))
#else
#define STABLE(p) (!PENDING(1,p) && !PENDING(2,p) && !PENDING(3,p) && !PENDING(4,p) && !PENDING(5,p) && !PENDING(6,p) && !PENDING(7,p) && !PENDING(8,p))
#endif
#endif
#endif
#if defined(NOGEN) || defined(FRESH)
#define STAMPED(i) 1
#else
#define STAMPED(i) (q[i].b[0].g==gen)
#endif
#ifdef NOFENCE
#define INPLACE(i) 1
#else
#ifdef FIRSTOFF
#define INPLACE(i) ((!n0 || (P[0]==pos0[i] && pos0[i]!=1)) && (!n1 || P[1]==pos1[i]))
#else
#define INPLACE(i) ((!n0 || P[0]==pos0[i]) && (!n1 || P[1]==pos1[i]))
#endif
#endif
/* What a record put out: an update of an applied sale, a dead letter of a rejected record, as far as the timer has no part in it. */
#ifdef TIMER
#define OUT(r) (((fate[r]==APPLIED || fate[r]==REJECTED) && (r)!=RB) -> (1<<(r)) : 0)
#else
#define OUT(r) ((fate[r]==APPLIED || fate[r]==REJECTED) -> (1<<(r)) : 0)
#endif
#define MAX(a,b) ((a)>(b) -> (a) : (b))

/* A record is there, and its row is not locked: a batch waits for the locks of all that it touches. */
#define GO0(i) ((own[i]&1) && pos0[i]<N && !lk[0])
#define GO1(i) ((own[i]&2) && pos1[i]<N && !lk[1])

inline anyassign() { if :: owner[0]=0 :: owner[0]=1 fi; if :: owner[1]=0 :: owner[1]=1 fi }
inline unbatch(i,n) { q[i].b[n].outs=0; q[i].b[n].e0=0; q[i].b[n].e1=0; q[i].b[n].kt=0; q[i].b[n].g=0 }
inline clearq(i) { d_step { ph[i]=0; nt[i]=0; ql[i]=0; unbatch(i,0); unbatch(i,1) } }
inline forget(i) { d_step { pos0[i]=0; pos1[i]=0; rp0[i]=0; rp1[i]=0; tk[i]=0; tpr[i]=0; miss[i]=0 } }
#define PUSH(xo,x0,x1,xk) u=ql[i]; q[i].b[u].outs=(xo); q[i].b[u].e0=(x0); q[i].b[u].e1=(x1); q[i].b[u].kt=(xk); q[i].b[u].g=mg[i]; ql[i]++; u=0
/* What was in the transaction is published: it leaves the queue. */
inline pop(i) { d_step {
  if :: q[i].b[0].e0 -> kn0[i]=q[i].b[0].e0 :: else fi; if :: q[i].b[0].e1 -> kn1[i]=q[i].b[0].e1 :: else fi;
  if :: nt[i]>1 && q[i].b[1].e0 -> kn0[i]=q[i].b[1].e0 :: else fi; if :: nt[i]>1 && q[i].b[1].e1 -> kn1[i]=q[i].b[1].e1 :: else fi;
  if :: nt[i]==1 && ql[i]==2 -> q[i].b[0].outs=q[i].b[1].outs; q[i].b[0].e0=q[i].b[1].e0; q[i].b[0].e1=q[i].b[1].e1; q[i].b[0].kt=q[i].b[1].kt; q[i].b[0].g=q[i].b[1].g
     :: else -> unbatch(i,0) fi;
  unbatch(i,1); ql[i]=ql[i]-nt[i]; nt[i]=0; ph[i]=0 } }
inline turn(i) { r=fr[i]; fr[i]=bk[i]; bk[i]=r; r=0 }

/* The transaction of an id is over. */
inline clear(t) { d_step { T[t].st=EMPTY; T[t].outs=0; T[t].o0=0; T[t].o1=0; T[t].kt=0; T[t].pend=0; T[t].late=0; T[t].bef=0; T[t].stale=0;
  u=1; do :: u<=NT -> T[u].bef = T[u].bef & ~(1<<(t)); u++ :: else -> break od; u=0 } }
inline visible(t,x) { if :: (T[t].outs >> x) & 1 -> cnt[x]++; assert(cnt[x]<=1) :: else fi }      /* error: output-twice (S2) */
/* The coordinator decides to commit: from here on read_committed shows it, sooner or later. */
inline decide(t) { d_step { T[t].st=DECIDED; T[t].late=0;
  visible(t,0); visible(t,1); visible(t,2); visible(t,3); visible(t,4);
  assert(lostcommit || (T[t].o0<=P[0] && T[t].o1<=P[1] && T[t].kt<=tp)) } }                        /* error: k-ahead (S3) */
/* The markers are written: the offsets hold. The coordinator keeps those that were appended last, whichever markers come first. */
inline marker(t) { d_step {
  u=1; do :: u<=NT -> if :: (T[t].bef >> u) & 1 -> T[u].stale = T[u].stale | (T[t].o0!=0) | (2*(T[t].o1!=0)) :: else fi; u++ :: else -> break od; u=0;
#ifdef MARKERS
  T[t].stale=0;
#endif
  if :: T[t].o0 && !(T[t].stale&1) -> assert(lostcommit || T[t].o0>=K[0]);                         /* error: k-back (S3) */
        K[0]=T[t].o0; ks=ks|1 :: else fi;
  if :: T[t].o1 && !(T[t].stale&2) -> assert(lostcommit || T[t].o1>=K[1]);                         /* error: k-back (S3) */
        assert(lostcommit || T[t].kt>=KT);                                                         /* error: number-back (S3) */
        K[1]=T[t].o1; KT=T[t].kt; ks=ks|2 :: else fi };
  clear(t) }

/* A producer is in doubt: thrown away, to be retired; the session ends, and what is in hand is dropped. */
inline doubt(i) { d_step {
#ifdef SAMEID
  fr[i]=0; bk[i]=0;
#else
  ret[i]=fr[i]; fr[i]=bk[i]; bk[i]=0;
#endif
  st[i]=PREPARE }; clearq(i); forget(i) }
/* The session ends; what is in a transaction may still be committed or given up, what waits is dropped. */
inline ends(i) { d_step { if :: ph[i]>0 && ql[i]>nt[i] -> unbatch(i,1); ql[i]=nt[i] :: else fi; st[i]=DRAIN }; if :: ph[i]==0 -> clearq(i) :: else fi; forget(i) }
inline stop(i) { d_step { st[i]=STOP; alarm=1; assert(KDEL>0 || PBACK>0) }; clearq(i); forget(i) }   /* error: needless-stop */
inline alloc(i,x) { u=1; do :: u<=NT && !(T[u].st==EMPTY && T[u].hold==0) -> u++ :: else -> break od;
  assert(u<=NT);                                                         /* error: no-id: NT is too small */
  T[u].hold=i+1; x=u; u=0 }

inline one(p) {                /* the record at P meets its fate, for the first time */
  r = 2*p+P[p]; assert(fate[r]==0); last=last|(1<<r);                                             /* error: effect-twice (S1) */
  if :: r==1 -> fate[r]=REJECTED; rj[p]++
#ifdef TIMER
     :: r==RB -> fate[r]=PARKED; pk[p]++
#else
     :: r==RB -> fate[r]=APPLIED; ap[p]++
#endif
     :: (r==0||r==RA) && effA==0 -> effA=r+1; fate[r]=APPLIED; ap[p]++
     :: (r==0||r==RA) && effA!=0 -> fate[r]=DUPLICATE; du[p]++
  fi; P[p]++ }
#ifdef NOFENCE                 /* without the comparison a batch is applied wherever P may stand */
#define ONE(p,o) P[p]=o; one(p)
#else
#define ONE(p,o) one(p)
#endif

proctype Proc(byte i) {
  byte r, m, o, u; bit n0, n1;
endloop:
  do
  /* ---- death, the group */
  :: atomic { kills>0 && st[i]!=JOIN && st[i]!=STOP -> kills--;
       if :: ph[i]==2 -> T[fr[i]].late=1 :: true fi;                     /* its request to commit may be on its way */
       T[fr[i]].hold=0; T[bk[i]].hold=0; T[ret[i]].hold=0; fr[i]=0; bk[i]=0; ret[i]=0;
       clearq(i); forget(i); kn0[i]=0; kn1[i]=0; mg[i]=0; own[i]=0; st[i]=JOIN }
  :: atomic { st[i]==JOIN -> gen++; anyassign(); mg[i]=gen; own[i]=OWNED(i); st[i]=PREPARE }
  :: atomic { st[i]!=JOIN && st[i]!=STOP && mg[i]!=gen ->                /* Group::rebalance: the partitions are revoked or lost */
#ifdef KEEP
       if :: ql[i]>0 && st[i]==RUN -> q[i].b[0].g=gen; q[i].b[1].g=(ql[i]>1 -> gen : 0); mg[i]=gen; goto kept :: else fi;
#endif
       ends(i); mg[i]=gen; own[i]=OWNED(i); kn0[i]=0; kn1[i]=0;
kept:  skip }
#ifdef KEEP
  :: atomic { st[i]==RUN && mg[i]==gen && ql[i]==0 && own[i]!=OWNED(i) -> ends(i); own[i]=OWNED(i) }
#endif
  :: atomic { st[i]==DRAIN && ph[i]==0 -> clearq(i); st[i]=PREPARE }
  :: atomic { st[i]==DRAIN && ph[i]>0 -> doubt(i) }                      /* "the partitions were taken away" */
  /* ---- recovery: publisher.rs: prepare, then recovery.rs: recover */
#ifdef SAMEID
  :: atomic { st[i]==PREPARE && T[1].st!=DECIDED && T[2].st!=DECIDED ->
       clear(1); clear(2); T[1].hold=i+1; T[2].hold=i+1; fr[i]=1; bk[i]=2;
#else
  :: atomic { st[i]==PREPARE && (ret[i]==0 || T[ret[i]].st!=DECIDED) ->
       if :: ret[i] -> clear(ret[i]); T[ret[i]].hold=0; ret[i]=0 :: else fi;
       if :: fr[i]==0 -> alloc(i,fr[i]) :: else fi;
       if :: bk[i]==0 -> alloc(i,bk[i]) :: else fi;
#endif
#if KDEL>0
       pub[0]=MAX(pub[0],kn0[i]); pub[1]=MAX(pub[1],kn1[i]);
#endif
#ifdef PFIRST
       st[i]=READP }
#else
       st[i]=READK }
#endif
  :: atomic { st[i]==READK && (!(own[i]&1) || STABLE(0)) && (!(own[i]&2) || STABLE(1)) ->
       if :: own[i]&1 -> pos0[i]=K[0] :: else fi;
       if :: own[i]&2 -> pos1[i]=K[1]; tk[i]=KT :: else fi;
       miss[i] = own[i] & ~ks;
#ifdef PFIRST
       if :: pos0[i]>rp0[i] || pos1[i]>rp1[i] || tk[i]>tpr[i] -> stop(i) :: else -> st[i]=REPUB fi }
  :: atomic { st[i]==READP ->
       if :: own[i]&1 -> rp0[i]=P[0] :: else fi;
       if :: own[i]&2 -> rp1[i]=P[1]; tpr[i]=tp :: else fi;
       st[i]=READK }
#else
       st[i]=READP }
  :: atomic { st[i]==READP ->
       if :: own[i]&1 -> rp0[i]=P[0] :: else fi;
       if :: own[i]&2 -> rp1[i]=P[1]; tpr[i]=tp :: else fi;
       if
#ifndef NOHINT
       :: ((miss[i]&1) && pub[0]>0) || ((miss[i]&2) && pub[1]>0) -> stop(i)      /* K is gone, though something was published */
#endif
#ifndef NOPBACK
       :: pos0[i]>rp0[i] || pos1[i]>rp1[i] || tk[i]>tpr[i] -> stop(i)            /* the database has lost commits */
#endif
       :: else ->
#ifdef NOPBACK
          if :: pos0[i]>rp0[i] -> pos0[i]=rp0[i] :: else fi; if :: pos1[i]>rp1[i] -> pos1[i]=rp1[i] :: else fi;
#endif
          miss[i]=0; st[i]=REPUB fi }
#endif
  /* what lies between K and P, a piece at a time, made again from the ledger and the log; then what the timer put out */
  :: atomic { st[i]==REPUB && ql[i]==0 && ph[i]==0 ->
#ifdef NOREPUB
       pos0[i]=rp0[i]; pos1[i]=rp1[i]; tk[i]=tpr[i];
#endif
#ifdef AHEAD
#define CARRY tpr[i]
#else
#define CARRY tk[i]
#endif
       if
       :: pos0[i]<rp0[i] -> o=OUT(pos0[i]); PUSH(o,pos0[i]+1,0,0); pos0[i]++
       :: pos0[i]>=rp0[i] && pos1[i]<rp1[i] -> o=OUT(2+pos1[i]);
#ifdef ROWSTATE
          if :: 2+pos1[i]==RB && fate[RB]==REJECTED -> o=o|16 :: else fi;
#endif
          PUSH(o,0,pos1[i]+1,CARRY); pos1[i]++
       :: pos0[i]>=rp0[i] && pos1[i]>=rp1[i] && tk[i]<tpr[i] -> tk[i]++; PUSH(16,0,rp1[i],tk[i])
       :: else -> rp0[i]=0; rp1[i]=0; tk[i]=0; st[i]=RUN fi; o=0 }
  /* ---- apply: one PostgreSQL transaction over the next record of each partition in m */
  :: atomic { st[i]==RUN && ql[i]<Q && (GO0(i) || GO1(i)) ->
       if :: GO0(i) -> n0=1
          :: GO1(i) -> n1=1
          :: GO0(i) && GO1(i) -> n0=1; n1=1 fi;
       if
       :: !INPLACE(i) -> ends(i)                                      /* the fence: somebody else was here, or a COMMIT whose answer was lost */
       :: else ->
          if
          :: lost>0 && !lk[0] && !lk[1] -> lost--; lk[0]=n0; lk[1]=n1         /* COMMIT sent, connection gone: runs the batch again */
          :: freeze>0 && !lk[0] && !lk[1] -> freeze--; lk[0]=2*n0; lk[1]=2*n1; ends(i) /* frozen before COMMIT; wakes up, its session over */
          :: last=0;
             if :: n0 -> ONE(0,pos0[i]) :: else fi;
             if :: n1 -> ONE(1,pos1[i]) :: else fi;
#if PBACK==0
             last=0;
#endif
#if KDEL>0
             if :: n0 -> pub[0]=MAX(pub[0],kn0[i]) :: else fi; if :: n1 -> pub[1]=MAX(pub[1],kn1[i]) :: else fi;
#endif
             if
             :: lost>0 -> lost--                                      /* committed, answer lost: runs the batch again */
             :: o=0;
                if :: n0 -> o=OUT(pos0[i]); pos0[i]++ :: else fi;
                if :: n1 -> o=o|OUT(2+pos1[i]); pos1[i]++ :: else fi;
#ifdef ERASE
                PUSH(o,(n0->pos0[i]:0),(n1->pos1[i]:0),0)
#else
                PUSH(o,(n0->pos0[i]:0),(n1->pos1[i]:0),(n1->tpr[i]:0))
#endif
             fi
          fi
       fi
       r=0; o=0; n0=0; n1=0 }
#ifdef TIMER
  /* ---- the timer, in the same loop as apply: joins B to its order, or rejects it; the place and the number are compared */
  :: atomic { st[i]==RUN && (own[i]&2) && ql[i]<Q && fate[RB]==PARKED && !lk[1] && P[1]==pos1[i] && tpr[i]==tp ->
       if
       :: effA!=0 -> fate[RB]=APPLIED; pk[1]--; ap[1]++
       :: fate[RB]=REJECTED; pk[1]--; rj[1]++; tp=1;
          if :: lost>0 -> lost--                                         /* committed, answer lost: the next look finds it */
             :: tpr[i]=1; PUSH(16,0,pos1[i],1) fi
       fi }
#ifndef NOCUR
  :: atomic { st[i]==RUN && (own[i]&2) && !lk[1] && (tpr[i]!=tp || P[1]!=pos1[i]) -> ends(i) }
#endif
#endif
#if PBACK>0 && !defined(NOPBACK)
  :: atomic { st[i]==RUN && (((own[i]&1) && kn0[i]>P[0]) || ((own[i]&2) && kn1[i]>P[1])) -> stop(i) }    /* still_sound */
#endif
  /* ---- publish: one Kafka transaction for all that waits; two producers take turns */
  :: atomic { (st[i]==RUN || st[i]==REPUB) && ql[i]>0 && ph[i]==0 && (FENCED(i) || T[fr[i]].st==EMPTY) ->
       if :: FENCED(i) -> doubt(i)
          :: else -> nt[i]=ql[i]; ph[i]=1; T[fr[i]].st=ONGOING; T[fr[i]].outs=q[i].b[0].outs | (nt[i]>1 -> q[i].b[1].outs : 0) fi }
  :: atomic { ph[i]==1 ->                                                /* send_offsets_to_transaction, with the session's stamp */
       if :: FENCED(i) || !STAMPED(i) -> doubt(i)
          :: else -> m=fr[i]; ph[i]=2;
             u=1; do :: u<=NT -> if :: u!=m && T[u].pend -> T[m].bef=T[m].bef|(1<<u) :: else fi; u++ :: else -> break od; u=0;
             T[m].pend=1;
             T[m].o0=(nt[i]>1 && q[i].b[1].e0 -> q[i].b[1].e0 : q[i].b[0].e0);
             if :: nt[i]>1 && q[i].b[1].e1 -> T[m].o1=q[i].b[1].e1; T[m].kt=q[i].b[1].kt
                :: else -> T[m].o1=q[i].b[0].e1; T[m].kt=q[i].b[0].kt fi; m=0 fi }
  :: atomic { ph[i]==2 ->                                                /* commit_transaction */
       if
       :: FENCED(i) -> doubt(i)
       :: else ->
          if
#ifdef EARLY
          :: T[fr[i]].late=1; pop(i); turn(i)                            /* sent, and not waited for */
#endif
          :: lost>0 -> lost--; T[fr[i]].late=1;                          /* the request is late, or never arrives */
#ifdef BLIND
             ph[i]=0; nt[i]=0; turn(i)
#else
             doubt(i)
#endif
          :: decide(fr[i]);
             if :: pop(i); turn(i)
                :: lost>0 -> lost--;                                     /* committed, answer lost */
#ifdef BLIND
                   ph[i]=0; nt[i]=0; turn(i)
#else
                   doubt(i)
#endif
             fi
          fi
       fi }
  od }

/* The broker aborts at a timeout: at once where nobody lives behind it, else at most TMO times; the holder is fenced then. */
#define EXPIRES(t) (T[t].st==ONGOING && (T[t].hold==0 || (tmo>0 && T[t].hold<9)))
inline expire(t) { if :: T[t].hold -> tmo--; T[t].hold=9 :: else fi; clear(t) }
#define KAFKA(t) :: atomic { T[t].st==DECIDED -> marker(t) } \
  :: atomic { T[t].st==ONGOING && T[t].late -> decide(t) } \
  :: atomic { EXPIRES(t) -> expire(t) }

/* Where it was deleted and nobody has begun a session since. */
#define K_GONE(p) (KDEL>0 && !(ks&p))

proctype Env() { byte r, u;
  do
  :: atomic { rebs>0 -> rebs--; gen++; anyassign() }
  KAFKA(1)
  KAFKA(2)
#ifndef SAMEID
  KAFKA(3)
  KAFKA(4)
#if KILLS>0
  KAFKA(5)
  KAFKA(6)
#endif
#if KILLS>1
  KAFKA(7)
  KAFKA(8)
#endif
#endif
  :: atomic { lk[0]==1 || lk[1]==1 -> last=0;                            /* the COMMIT under way lands */
       if :: lk[0]==1 -> one(0) :: else fi; if :: lk[1]==1 -> one(1) :: else fi; lk[0]=0; lk[1]=0; r=0;
#if PBACK==0
       last=0
#endif
     }
#ifndef NOIDLE
  :: atomic { lk[0] || lk[1] -> lk[0]=0; lk[1]=0 }                       /* the server ends the transaction: rule 7's timeouts */
#endif
#if KDEL>0
  /* only where what is published has been noted: see README.md */
  :: atomic { kdel>0 && (ks&1) && pub[0]>0 -> kdel--; K[0]=0; ks=ks&2 }
  :: atomic { kdel>0 && (ks&2) && pub[1]>0 -> kdel--; K[1]=0; KT=0; ks=ks&1 }
#endif
#if PBACK>0                    /* a failover loses the last commit */
  :: atomic { pback>0 && last && !lk[0] && !lk[1] -> pback--; lostcommit=1; r=0;
       do :: r<4 ->
             if :: (last>>r)&1 -> P[r/2]--;
                   if :: fate[r]==APPLIED -> ap[r/2]-- :: fate[r]==DUPLICATE -> du[r/2]-- :: fate[r]==REJECTED -> rj[r/2]-- fi;
                   fate[r]=0; if :: effA==r+1 -> effA=0 :: else fi
                :: else fi; r++
          :: else -> break od; r=0; last=0 }
#endif
  :: timeout -> break
  od;
  /* Nothing more can happen: all is done (L), the sums are right (S4); or a processor has stopped, and said why. */
  if :: alarm -> skip
     :: else ->
        d_step {
          assert(P[0]==N && P[1]==N);                                                              /* error: not-applied */
          assert((K[0]==N || K_GONE(1)) && (K[1]==N || K_GONE(2))) };                              /* error: not-published */
        assert(ap[0]+du[0]+rj[0]+pk[0]==N && ap[1]+du[1]+rj[1]+pk[1]==N && effA!=0 && rj[0]==1);   /* error: sums (S4) */
        assert(cnt[1]==1 && cnt[0]+cnt[RA]==1 && cnt[0]==(fate[0]==APPLIED) && cnt[RA]==(fate[RA]==APPLIED));  /* error: outputs */
#ifdef TIMER
        d_step {
          assert(pk[1]==0 && tp==(fate[RB]==REJECTED));                                            /* error: sums (S4) */
          assert(cnt[RB]==0 && cnt[4]==tp);                                                        /* error: timer-outputs */
          assert(KT==tp || K_GONE(2)) }                                                            /* error: number-behind */
#else
        assert(cnt[RB]==1)                                                                         /* error: outputs */
#endif
  fi
}
init { atomic { st[0]=PREPARE; st[1]=PREPARE; mg[0]=1; mg[1]=1; if :: owner[1]=0 :: owner[1]=1 fi; own[0]=OWNED(0); own[1]=OWNED(1);
  run Proc(0); run Proc(1); run Env() } }
