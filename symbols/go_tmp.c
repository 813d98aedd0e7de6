#include "go.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <Zydis/Zydis.h>
static const char *const names[GO_FUNCTION_COUNT]={"crypto/tls.(*Conn).Read","crypto/tls.(*Conn).Write","crypto/tls.(*Conn).Close","crypto/tls.(*Conn).clientHandshake","crypto/tls.(*Conn).serverHandshake","a","b","c","d"};
const char *go_function__name(enum go_function f){return names[f];}
static int note(void *c,const struct elf_function *f){struct go_code *code=c; for(int i=0;i<GO_FUNCTION_COUNT;i++) if(!strcmp(names[i],f->name)){code->functions[i].address=f->address;code->functions[i].size=f->size;} return 0;}
int elf_file__go_code(struct elf_file *file, struct go_code *ret){ *ret=(struct go_code){.abi=GO_ABI_REGISTERS,.version="go1.tmp"}; int err=elf_file__each_function(file,note,ret); if(err) return err; for(int i=0;i<GO_FUNCTION_COUNT;i++) if(ret->functions[i].address) elf_file__offset(file,ret->functions[i].address,&ret->functions[i].offset); return ret->functions[0].offset?0:-ENOENT;}
int go_sites__find(const struct elf_file *file,int fd,const struct go_code *code,enum go_function f,const struct emulated *e,struct placement *p){
 const struct go_function_code *g=&code->functions[f]; if(!g->offset) return -ENOENT; *p=(struct placement){.exit_kind=EXIT_SITES};
 uint8_t *b=malloc(g->size); pread(fd,b,g->size,g->offset); ZydisDecoder d; ZydisDecoderInit(&d,ZYDIS_MACHINE_MODE_LONG_64,ZYDIS_STACK_WIDTH_64); ZydisDecodedInstruction in; uint64_t at=0; bool entry=false;
 while(at<g->size){ if(!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d,NULL,b+at,g->size-at,&in))) break; if(!entry&&in.mnemonic==ZYDIS_MNEMONIC_JBE){entry=true;p->entry=(struct placement_site){.offset=g->offset+at,.class=SITE_EMULATED};} if(in.mnemonic==ZYDIS_MNEMONIC_RET){p->exits[p->exit_count++]=(struct placement_site){.offset=g->offset+at,.class=SITE_STEPPED}; } at+=in.length;} free(b); return 0;}
